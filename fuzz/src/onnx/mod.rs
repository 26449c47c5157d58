//! The ONNX target: bytes are read, imported, verified, optimised and run on small inputs under limits of memory and
//! iterations. Changing models in ways that random bytes seldom do is in `mutate.rs`.

mod mutate;

pub use mutate::mutate_onnx;

use super::artifact::{engine, run_small};
use frit_frontends::onnx::import::{ImportError, ImportRequest, import};
use frit_frontends::onnx::schema::{DataType, SequenceType, TypeProto, TypeValue};
use frit_frontends::onnx::{HostValue, OnnxModel, Strings, read};
use frit_ir::{DType, Tensor, verify};
use frit_runtime::BackendKind;

/// Bytes as a model that may not refer to files. What is imported verifies, before the passes and after.
pub fn onnx(data: &[u8]) {
    let Ok(model) = OnnxModel::from_bytes(data.to_vec()) else { return };
    let Some(module) = imported(&model) else { return };
    if let Err(e) = verify::verify(&module) {
        panic!("what was imported does not verify: {e}\n{module}");
    }
    if let Ok(model) = engine(BackendKind::Cpu).model(module.clone()) {
        run_small(&model);
    }
    let mut optimised = module.clone();
    if let Err(e) = frit_passes::optimise(&mut optimised, &frit_passes::Options::default()) {
        panic!("passes failed: {e}\n{module}");
    }
    if let Err(e) = verify::verify(&optimised) {
        panic!("what was optimised does not verify: {e}\n{module}\n{optimised}");
    }
    if let Ok(model) = engine(BackendKind::Cpu).model(optimised) {
        run_small(&model);
    }
}

/// The module, with examples made up for the inputs whose shapes or values import must know.
fn imported(model: &OnnxModel) -> Option<frit_ir::Module> {
    let mut request = ImportRequest::default();
    for _ in 0..4 {
        match import(model, &request) {
            Ok(imported) => return Some(imported.module),
            Err(ImportError::NeedsShapes { inputs }) => {
                for name in inputs {
                    let dtype = example(model, &name).and_then(|v| v.tensor().map(Tensor::dtype));
                    request.examples.insert(name, (dtype.unwrap_or(DType::F32), vec![2, 3]));
                }
            }
            Err(ImportError::NeedsValues { inputs, .. }) => {
                for name in inputs {
                    let value = example(model, &name)?;
                    request.examples.remove(&name);
                    request.frozen.insert(name, value);
                }
            }
            Err(_) => return None,
        }
    }
    None
}

fn example(model: &OnnxModel, name: &str) -> Option<HostValue> {
    let input = model.graph()?.input.iter().find(|i| i.name == name)?;
    value_of(input.r#type.as_ref()?)
}

fn value_of(ty: &TypeProto) -> Option<HostValue> {
    let inner = |of: &Option<Box<TypeProto>>| of.as_deref().and_then(value_of);
    Some(match ty.value.as_ref()? {
        TypeValue::TensorType(t) => {
            let dims = t.shape.iter().flat_map(|s| &s.dim);
            let shape: Vec<usize> = dims
                .map(|d| match d.value {
                    Some(frit_frontends::onnx::schema::DimValue::DimValue(n)) => {
                        usize::try_from(n).unwrap_or(0)
                    }
                    _ => 2,
                })
                .collect();
            let count = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).filter(|n| *n <= 4096)?;
            let ty = DataType::try_from(t.elem_type).ok()?;
            if ty == DataType::String {
                return Some(HostValue::Strings(Strings { shape, values: vec!["a b".into(); count] }));
            }
            Tensor::from_i64(read::dtype_of(ty)?, &shape, &vec![1; count]).ok()?.into()
        }
        TypeValue::SequenceType(s) => {
            let SequenceType { elem_type } = &**s;
            let one = inner(elem_type)?;
            HostValue::Sequence(vec![one.clone(), one])
        }
        TypeValue::OptionalType(o) => HostValue::Optional(inner(&o.elem_type).map(Box::new)),
        _ => return None,
    })
}
