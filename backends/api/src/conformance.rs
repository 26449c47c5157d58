//! The conformance suite: every op that a backend gives a kernel for, against the interpreter, on random
//! shapes and data. Cases are made from the op table; a backend's own tests run them. No tolerance is set
//! by a backend.

use crate::{Backend, KernelError, OperandInfo, Request, Run, Target, TensorMut, TensorRef};
use frit_ir::{Bindings, Op, Tensor, TensorType, interp};

/// One op on concrete operands.
#[derive(Clone, Debug)]
pub struct Case {
    /// What the case is, for failure messages.
    pub name: String,
    /// The op.
    pub op: Op,
    /// Operands.
    pub inputs: Vec<Option<Tensor>>,
    /// Which operands are weights, so that packing is exercised.
    pub constant: Vec<bool>,
}

/// What came of a case.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The backend gave no kernel.
    Declined,
    /// All outputs within tolerance; the largest error relative to the largest reference value.
    Passed(f64),
    /// Wrong, with what.
    Failed(String),
}

/// Runs one case through a backend's kernel, weights packed as it asks, and compares with the interpreter.
/// Floats may differ by `tolerance` times the largest reference magnitude; other types must be equal.
pub fn check(backend: &dyn Backend, case: &Case, target: Target, tolerance: f64) -> Outcome {
    match try_check(backend, case, target, tolerance) {
        Ok(outcome) => outcome,
        Err(why) => Outcome::Failed(format!("{}: {why}", case.name)),
    }
}

fn try_check(backend: &dyn Backend, case: &Case, target: Target, tolerance: f64) -> Result<Outcome, String> {
    let types: Vec<Option<TensorType>> = case
        .inputs
        .iter()
        .map(|t| t.as_ref().map(|t| TensorType::new(t.dtype(), t.shape().iter().copied())))
        .collect();
    let type_refs: Vec<Option<&TensorType>> = types.iter().map(Option::as_ref).collect();
    let outputs = case
        .op
        .infer(&frit_ir::op::Infer { op: case.op.name(), inputs: &type_refs })
        .map_err(|e| e.to_string())?;
    let output_refs: Vec<&TensorType> = outputs.iter().collect();
    let infos: Vec<Option<OperandInfo<'_>>> = case
        .inputs
        .iter()
        .zip(&type_refs)
        .enumerate()
        .map(|(i, (t, ty))| {
            let constant = case.constant.get(i).copied().unwrap_or(false);
            let small = t.as_ref().filter(|t| constant && t.len() <= frit_ir::module::SMALL);
            ty.map(|ty| OperandInfo { ty, constant, streamed: false, small })
        })
        .collect();
    let request = Request {
        op: &case.op,
        inputs: &infos,
        outputs: &output_refs,
        target,
        precision: Default::default(),
    };
    let Some(kernel) = backend.kernel(&request) else { return Ok(Outcome::Declined) };
    let inputs: Vec<Option<&Tensor>> = case.inputs.iter().map(Option::as_ref).collect();
    let bindings = Bindings::new();
    let reference = interp::evaluate(&case.op, &inputs, &output_refs, &bindings, &case.name)
        .map_err(|e| e.to_string())?;

    let mut packed: Vec<Option<Tensor>> = vec![None; case.inputs.len()];
    for p in kernel.packing() {
        let weight = inputs.get(p.input).copied().flatten().ok_or("packs a missing operand")?;
        if !case.constant.get(p.input).copied().unwrap_or(false) {
            return Err("packs an operand that is no weight".into());
        }
        let blob = kernel.pack(p.input, weight).map_err(|e| e.to_string())?;
        if let Some(slot) = packed.get_mut(p.input) {
            *slot = Some(Tensor::from_slice(&[blob.len()], &blob).map_err(|e| e.to_string())?);
        }
    }
    let refs: Vec<Option<TensorRef<'_>>> = inputs
        .iter()
        .zip(&packed)
        .map(|(t, p)| {
            t.map(|t| TensorRef {
                dtype: t.dtype(),
                shape: t.shape(),
                strides: None,
                bytes: p.as_ref().map_or(t.bytes(), Tensor::bytes),
            })
        })
        .collect();
    let shapes: Vec<Option<&[usize]>> = inputs.iter().map(|t| t.map(Tensor::shape)).collect();
    let out_shapes: Vec<&[usize]> = reference.iter().map(Tensor::shape).collect();
    let workspace_bytes = kernel.workspace(&shapes, &out_shapes);
    let run_once = |aliased: Option<usize>| -> Result<Vec<Tensor>, String> {
        // 64-byte aligned memory, filled so that an element left unwritten shows.
        let mut buffers: Vec<Vec<[u64; 8]>> = reference
            .iter()
            .map(|t| vec![[0xA5A5_A5A5_A5A5_A5A5; 8]; t.bytes().len().div_ceil(64)])
            .collect();
        let mut space = vec![[0xA5A5_A5A5_A5A5_A5A5u64; 8]; workspace_bytes.div_ceil(64)];
        let mut refs = refs.clone();
        let mut outs: Vec<TensorMut<'_>> = Vec::new();
        for (b, t) in buffers.iter_mut().zip(&reference) {
            let all: &mut [u8] = bytemuck::cast_slice_mut(b);
            let bytes = all.get_mut(..t.bytes().len()).ok_or("buffer too small")?;
            outs.push(TensorMut { dtype: t.dtype(), shape: t.shape(), bytes });
        }
        if let Some(i) = aliased {
            let source = refs.get_mut(i).and_then(Option::take).ok_or("aliases a missing operand")?;
            outs.first_mut().ok_or("no output")?.bytes.copy_from_slice(source.bytes);
        }
        let workspace: &mut [u8] = bytemuck::cast_slice_mut(&mut space);
        let workspace = workspace.get_mut(..workspace_bytes).ok_or("workspace too small")?;
        kernel
            .run(&mut Run { inputs: &refs, outputs: &mut outs, aliased, workspace, bindings: &bindings })
            .map_err(|e: KernelError| e.to_string())?;
        outs.iter()
            .map(|o| Tensor::from_bytes(o.dtype, o.shape, o.bytes).map_err(|e| e.to_string()))
            .collect()
    };
    let mut worst = compare(&run_once(None)?, &reference, tolerance)?;
    for &i in kernel.in_place() {
        let fits = inputs.get(i).copied().flatten().zip(reference.first()).is_some_and(|(t, r)| {
            t.dtype() == r.dtype() && t.shape() == r.shape() && packed.get(i).is_some_and(Option::is_none)
        });
        if fits {
            worst = worst.max(
                compare(&run_once(Some(i))?, &reference, tolerance)
                    .map_err(|e| format!("in place of {i}: {e}"))?,
            );
        }
    }
    Ok(Outcome::Passed(worst))
}

/// The largest difference relative to the largest reference magnitude, or what is wrong.
fn compare(got: &[Tensor], reference: &[Tensor], tolerance: f64) -> Result<f64, String> {
    let mut worst = 0.0f64;
    for (k, (g, r)) in got.iter().zip(reference).enumerate() {
        if !r.dtype().is_float() {
            if g != r {
                return Err(format!("output {k}: got {g:?}, expected {r:?}"));
            }
            continue;
        }
        let (g, r) = (g.to_f64_vec(), r.to_f64_vec());
        let scale = r.iter().filter(|x| x.is_finite()).fold(1e-30f64, |m, x| m.max(x.abs()));
        for (i, (a, b)) in g.iter().zip(&r).enumerate() {
            let same = (a.is_nan() && b.is_nan()) || a == b;
            let error = if same { 0.0 } else { (a - b).abs() / scale };
            // A difference that is not a number is wrong, too.
            if error.is_nan() || error > tolerance {
                return Err(format!(
                    "output {k}[{i}]: got {a}, expected {b}, error {error:.3e} of the largest"
                ));
            }
            worst = worst.max(error);
        }
    }
    Ok(worst)
}
