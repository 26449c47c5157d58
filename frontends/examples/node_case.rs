//! Runs ONNX test cases (folders with model.onnx and test_data_set_*) in the interpreter.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use frit_frontends::onnx::import::{ImportError, ImportRequest, flatten, import};
use frit_frontends::onnx::read::read_value;
use frit_frontends::onnx::{HostValue, OnnxModel};
use frit_ir::interp;
use std::path::Path;

fn load(
    dir: &Path,
    kind: &str,
    i: usize,
    ty: Option<&frit_frontends::onnx::schema::TypeProto>,
) -> Option<HostValue> {
    let bytes = std::fs::read(dir.join(format!("{kind}_{i}.pb"))).ok()?;
    Some(read_value(bytes, ty, kind).unwrap_or_else(|e| panic!("{e}")))
}

fn close(a: &HostValue, b: &HostValue) -> Result<(), String> {
    match (a, b) {
        (HostValue::Tensor(a), HostValue::Tensor(b)) => {
            if a.dtype() != b.dtype() || a.shape() != b.shape() {
                return Err(format!("got {a:?} want {b:?}").chars().take(300).collect());
            }
            for (i, (x, y)) in a.to_f64_vec().iter().zip(b.to_f64_vec()).enumerate() {
                let ok = *x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= 1e-7 + 1e-3 * y.abs();
                if !ok {
                    return Err(format!("element {i}: {x} want {y}"));
                }
            }
            Ok(())
        }
        (HostValue::Sequence(a), HostValue::Sequence(b)) if a.len() == b.len() => {
            a.iter().zip(b).try_for_each(|(a, b)| close(a, b))
        }
        (HostValue::Optional(Some(a)), b) => close(a, b),
        (a, HostValue::Optional(Some(b))) => close(a, b),
        (a, b) if a == b => Ok(()),
        (a, b) => Err(format!("got {a:?} want {b:?}")),
    }
}

fn case(dir: &Path) -> Result<(), String> {
    let model = OnnxModel::open(&dir.join("model.onnx")).map_err(|e| e.to_string())?;
    let g = model.graph().unwrap();
    for set in 0.. {
        let data = dir.join(format!("test_data_set_{set}"));
        if !data.exists() {
            return if set == 0 { Err("no data".into()) } else { Ok(()) };
        }
        let mut given = vec![];
        for (i, input) in g.input.iter().enumerate() {
            if let Some(v) = load(&data, "input", i, input.r#type.as_ref()) {
                given.push((input.name.clone(), v));
            }
        }
        let mut request = ImportRequest::default();
        let imported = loop {
            match import(&model, &request) {
                Ok(m) => break m,
                Err(ImportError::NeedsValues { inputs, .. })
                    if !inputs.iter().all(|n| request.frozen.contains_key(n)) =>
                {
                    for n in inputs {
                        let v = given.iter().find(|(m, _)| *m == n).ok_or("no value")?.1.clone();
                        request.frozen.insert(n, v);
                    }
                }
                Err(ImportError::NeedsShapes { inputs })
                    if !inputs.iter().all(|n| request.examples.contains_key(n)) =>
                {
                    for n in inputs {
                        let v = &given.iter().find(|(m, _)| *m == n).ok_or("no value")?.1;
                        let t = v.tensor().ok_or("no tensor")?;
                        request.examples.insert(n, (t.dtype(), t.shape().to_vec()));
                    }
                }
                Err(e) => return Err(format!("import: {e}")),
            }
        };
        if std::env::var("SHOW").is_ok() {
            eprintln!("{}", imported.module);
            eprintln!("{:?}", imported.warnings);
        }
        let errors = frit_ir::verify::verify(&imported.module);
        if let Err(e) = errors {
            return Err(format!("verify: {e:?}"));
        }
        let graph = &imported.module.graphs[0];
        let inputs: Vec<_> = given
            .iter()
            .flat_map(|(n, v)| flatten(n, v))
            .filter(|(n, _)| graph.inputs.iter().any(|i| i.name == *n))
            .collect();
        let out =
            interp::run_module(&imported.module, "forward", &inputs).map_err(|e| format!("run: {e}"))?;
        for (i, (name, form)) in imported.outputs.iter().enumerate() {
            let ty = g.output.iter().find(|o| o.name == *name).and_then(|o| o.r#type.as_ref());
            let Some(want) = load(&data, "output", i, ty) else { continue };
            let got = form
                .value(&|n| out.iter().find(|(m, _)| m == n).map(|(_, t)| t.clone()))
                .ok_or("no result")?;
            close(&got, &want).map_err(|e| format!("output {name}: {e}"))?;
        }
    }
    Ok(())
}

fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    let (mut pass, mut fail) = (0, 0);
    for arg in std::env::args().skip(1) {
        let path = std::path::PathBuf::from(&arg);
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let result = std::panic::catch_unwind(|| case(&path)).unwrap_or_else(|p| {
            Err(format!("PANIC {}", p.downcast_ref::<String>().cloned().unwrap_or_default()))
        });
        match result {
            Ok(()) => pass += 1,
            Err(e) => {
                fail += 1;
                println!("FAIL {name}: {e}");
            }
        }
    }
    println!("{pass} passed, {fail} failed");
}
