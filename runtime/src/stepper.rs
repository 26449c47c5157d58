//! Drives a compiled model token by token: encoder, decoder prefill and decoder step as three sessions that hand
//! each other tensors by name, caches kept in place. Which token comes next is `generation`'s business.

use crate::error::RuntimeError;
use crate::generation::StepModel;
use crate::model::Model;
use crate::session::{Outputs, Session};
use frit_ir::{DType, Tensor};
use std::collections::BTreeMap;

/// Entry point that turns raw input into what the decoder attends to.
pub const ENCODER: &str = "encoder";
/// Entry point that reads the prompt.
pub const PREFILL: &str = "decoder_prefill";
/// Entry point that reads one more token and what is kept.
pub const STEP: &str = "decoder_step";

/// Names that the token input has.
const TOKENS: [&str; 2] = ["decoder_input_ids", "input_ids"];
/// Names that the mask over the decoder's tokens has.
const MASKS: [&str; 2] = ["decoder_attention_mask", "attention_mask"];

/// A model being driven. One generation a stepper.
pub struct Stepper {
    prefill: Session,
    step: Session,
    /// What the caller and the encoder gave, a row an item.
    given: BTreeMap<String, Tensor>,
    /// What the step reads besides its states, a row a beam.
    kept: BTreeMap<String, Tensor>,
    /// The mask over all tokens so far, when the caller gave one for the prompt.
    mask: Option<Vec<Vec<i64>>>,
    batch: usize,
    vocab: usize,
    max_positions: Option<usize>,
    begun: bool,
}

fn token_input(session: &Session) -> Option<&'static str> {
    TOKENS.into_iter().find(|t| session.graph().inputs.iter().any(|i| i.name == *t))
}

fn has_input(session: &Session, name: &str) -> bool {
    session.graph().inputs.iter().any(|i| i.name == name)
}

impl Stepper {
    /// True when the model has the entry points that generation needs.
    pub fn supports(model: &Model) -> bool {
        let has = |name| model.entries().any(|e| e == name);
        has(PREFILL) && has(STEP)
    }

    /// Prepares a generation: runs the encoder, if there is one, on `inputs`.
    pub fn new(model: &Model, inputs: &BTreeMap<String, Tensor>) -> Result<Self, RuntimeError> {
        let (prefill, step) = (model.session(PREFILL)?, model.session(STEP)?);
        let mut given = inputs.clone();
        if model.entries().any(|e| e == ENCODER) {
            let mut encoder = model.session(ENCODER)?;
            let wanted: Vec<String> = encoder.graph().inputs.iter().map(|i| i.name.clone()).collect();
            let needed =
                encoder.graph().inputs.iter().any(|i| i.default.is_none() && given.contains_key(&i.name));
            let known = prefill
                .graph()
                .inputs
                .iter()
                .filter(|i| i.default.is_none())
                .all(|i| given.contains_key(&i.name) || TOKENS.contains(&i.name.as_str()));
            if needed || !known {
                let feed: Vec<(&str, &Tensor)> =
                    inputs.iter().filter(|(n, _)| wanted.contains(n)).map(|(n, t)| (n.as_str(), t)).collect();
                let out = encoder.run(&feed)?;
                let names: Vec<String> = out.names().map(str::to_owned).collect();
                for name in names {
                    let tensor = out.tensor(&name)?;
                    given.insert(name, tensor);
                }
            }
            // What only the encoder reads is not the decoder's.
            given.retain(|n, _| has_input(&prefill, n) || has_input(&step, n));
        }
        let vocab = prefill
            .graph()
            .outputs
            .iter()
            .find(|o| o.name == "logits")
            .and_then(|o| prefill.graph().ty(o.value))
            .and_then(|t| t.shape.last().and_then(|d| d.as_fixed()))
            .ok_or_else(|| RuntimeError::Output {
                name: "logits".into(),
                entry: PREFILL.into(),
                known: prefill.graph().outputs.iter().map(|o| o.name.as_str()).collect::<Vec<_>>().join(", "),
            })?;
        let batch = given.values().filter_map(|t| t.shape().first().copied()).next().unwrap_or(1);
        let mask_name = MASKS.into_iter().find(|m| has_input(&step, m));
        let mask = mask_name.and_then(|m| given.remove(m)).map(|t| {
            let columns = t.shape().get(1).copied().unwrap_or(0).max(1);
            t.to_i64_vec().chunks(columns).map(<[i64]>::to_vec).collect()
        });
        for t in TOKENS {
            given.remove(t);
        }
        let max_positions = model.fact("max_positions").and_then(|v| v.parse().ok());
        Ok(Stepper {
            prefill,
            step,
            given,
            kept: BTreeMap::new(),
            mask,
            batch,
            vocab,
            max_positions,
            begun: false,
        })
    }

    /// Items in the batch, before they become beams.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// A tensor of `rows` rows from one of `batch` rows: every item as often as it has beams.
    fn spread(tensor: &Tensor, rows: usize) -> Result<Tensor, RuntimeError> {
        let shape = tensor.shape();
        let Some(&batch) = shape.first().filter(|&&b| b != rows && b != 0 && rows.is_multiple_of(b)) else {
            return Ok(tensor.clone());
        };
        let row = tensor.bytes().len() / batch;
        let mut bytes = Vec::with_capacity(row * rows);
        for r in 0..rows {
            let from = r / (rows / batch) * row;
            bytes.extend_from_slice(tensor.bytes().get(from..from + row).unwrap_or(&[]));
        }
        let mut shape = shape.to_vec();
        if let Some(d) = shape.first_mut() {
            *d = rows;
        }
        Ok(Tensor::from_bytes(tensor.dtype(), &shape, &bytes)?)
    }

    /// Mask and positions of the tokens fed now, when the graph asks for them.
    fn add_mask(
        session: &Session,
        mask: Option<&[Vec<i64>]>,
        fed: usize,
        feed: &mut BTreeMap<String, Tensor>,
    ) -> Result<(), RuntimeError> {
        let Some(mask) = mask else { return Ok(()) };
        let rows = mask.len();
        let total = mask.first().map_or(0, Vec::len);
        if let Some(name) = MASKS.into_iter().find(|m| has_input(session, m)) {
            let flat: Vec<i64> = mask.iter().flatten().copied().collect();
            feed.insert(name.to_owned(), Tensor::from_slice(&[rows, total], &flat)?);
        }
        if has_input(session, "position_ids") {
            // transformers: cumulative sum of the mask less one, 1 over padding.
            let mut positions = Vec::with_capacity(rows * fed);
            for row in mask {
                let mut sum = 0;
                let all: Vec<i64> = row
                    .iter()
                    .map(|&m| {
                        sum += m;
                        if m == 0 { 1 } else { sum - 1 }
                    })
                    .collect();
                positions.extend(all.iter().skip(total - fed.min(total)).copied());
            }
            feed.insert("position_ids".into(), Tensor::from_slice(&[rows, fed], &positions)?);
        }
        Ok(())
    }

    fn begin(&mut self, tokens: &[i64], rows: usize, logits: &mut [f32]) -> Result<(), RuntimeError> {
        let length = tokens.len() / rows.max(1);
        let mut feed = BTreeMap::new();
        if let Some(name) = token_input(&self.prefill) {
            feed.insert(name.to_owned(), Tensor::from_slice(&[rows, length], tokens)?);
        }
        if let Some(mask) = &mut self.mask {
            let per = rows / mask.len().max(1);
            let spread: Vec<Vec<i64>> =
                mask.iter().flat_map(|m| std::iter::repeat_n(m.clone(), per.max(1))).collect();
            *mask = spread;
        }
        Self::add_mask(&self.prefill, self.mask.as_deref(), length, &mut feed)?;
        for (name, tensor) in &self.given {
            if has_input(&self.prefill, name) {
                feed.insert(name.clone(), Self::spread(tensor, rows)?);
            }
        }
        let feed: Vec<(&str, &Tensor)> = feed.iter().map(|(n, t)| (n.as_str(), t)).collect();
        self.prefill.clear_state();
        let out = self.prefill.run(&feed)?;
        last_logits(&out, rows, self.vocab, logits)?;
        self.kept.clear();
        let graph = self.step.graph();
        for input in &graph.inputs {
            let name = &input.name;
            let state_output = graph.states.iter().find(|s| s.input == *name).map(|s| s.output.as_str());
            let source = [Some(name.as_str()), state_output]
                .into_iter()
                .flatten()
                .find(|n| out.names().any(|o| o == *n));
            if let Some(source) = source {
                self.kept.insert(name.clone(), out.tensor(source)?);
            } else if let Some(t) = self.given.get(name) {
                self.kept.insert(name.clone(), Self::spread(t, rows)?);
            }
        }
        Ok(())
    }

    fn next(
        &mut self,
        tokens: &[i64],
        rows: usize,
        parents: Option<&[usize]>,
        logits: &mut [f32],
    ) -> Result<(), RuntimeError> {
        if let (Some(parents), Some(mask)) = (parents, &mut self.mask) {
            *mask = parents.iter().filter_map(|&p| mask.get(p).cloned()).collect();
        }
        if let Some(mask) = &mut self.mask {
            mask.iter_mut().for_each(|m| m.push(1));
        }
        let mut feed = BTreeMap::new();
        if let Some(name) = token_input(&self.step) {
            feed.insert(name.to_owned(), Tensor::from_slice(&[rows, 1], tokens)?);
        }
        Self::add_mask(&self.step, self.mask.as_deref(), 1, &mut feed)?;
        if !self.begun {
            // The first step takes the caches over; from then on the session keeps them.
            if let Some(parents) = parents {
                for tensor in self.kept.values_mut() {
                    *tensor = reorder(tensor, parents)?;
                }
            }
        } else if let Some(parents) = parents {
            self.step.reorder_state(parents);
        }
        for (name, tensor) in &self.kept {
            feed.insert(name.clone(), tensor.clone());
        }
        let refs: Vec<(&str, &Tensor)> = feed.iter().map(|(n, t)| (n.as_str(), t)).collect();
        if !self.begun {
            self.step.clear_state();
        }
        let states: Vec<String> = self.step.graph().states.iter().map(|s| s.input.clone()).collect();
        let out = self.step.run(&refs)?;
        last_logits(&out, rows, self.vocab, logits)?;
        if !self.begun {
            self.begun = true;
            self.kept.retain(|n, _| !states.contains(n));
        }
        Ok(())
    }
}

/// Rows of a tensor in another order. Rows of one item share what does not depend on their tokens.
fn reorder(tensor: &Tensor, parents: &[usize]) -> Result<Tensor, RuntimeError> {
    let shape = tensor.shape();
    let Some(&rows) = shape.first().filter(|&&r| r == parents.len() && r != 0) else {
        return Ok(tensor.clone());
    };
    if parents.iter().enumerate().all(|(i, &p)| i == p) {
        return Ok(tensor.clone());
    }
    let row = tensor.bytes().len() / rows;
    let mut bytes = Vec::with_capacity(tensor.bytes().len());
    for &p in parents {
        bytes.extend_from_slice(tensor.bytes().get(p * row..(p + 1) * row).unwrap_or(&[]));
    }
    Ok(Tensor::from_bytes(tensor.dtype(), shape, &bytes)?)
}

/// The logits after the last token of every row.
fn last_logits(out: &Outputs<'_>, rows: usize, vocab: usize, to: &mut [f32]) -> Result<(), RuntimeError> {
    let logits = out.get("logits")?;
    let wrong = || RuntimeError::Output {
        name: "logits".into(),
        entry: "decoder".into(),
        known: format!("logits {:?}, expected [{rows}, tokens, {vocab}]", logits.shape),
    };
    let (&[r, length, v], None) = (logits.shape, logits.strides) else { return Err(wrong()) };
    if r != rows || v != vocab || length == 0 || logits.dtype != DType::F32 || to.len() != rows * vocab {
        return Err(wrong());
    }
    let all = logits.slice::<f32>()?;
    for (row, to) in to.chunks_exact_mut(vocab).enumerate() {
        let start = (row * length + length - 1) * vocab;
        to.copy_from_slice(all.get(start..start + vocab).ok_or_else(wrong)?);
    }
    Ok(())
}

impl StepModel for Stepper {
    type Error = RuntimeError;

    fn vocab(&self) -> usize {
        self.vocab
    }

    fn max_positions(&self) -> Option<usize> {
        self.max_positions
    }

    fn step(
        &mut self,
        tokens: &[i64],
        rows: usize,
        parents: Option<&[usize]>,
        logits: &mut [f32],
    ) -> Result<(), RuntimeError> {
        if self.kept.is_empty() && !self.begun {
            self.begin(tokens, rows, logits)
        } else {
            self.next(tokens, rows, parents, logits)
        }
    }
}
