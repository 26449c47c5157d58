//! What a class takes from a checkpoint: weights by name and expected shape under nested scopes, with everything that
//! is missing, misshapen or left over collected and reported at once. File formats do not belong here.

use super::{Checkpoint, CheckpointError};
use crate::error::FrontendError;
use frit_ir::tensor::element_count;
use frit_ir::{DType, Storage, Tensor};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// How names in a checkpoint may differ from those of the class that reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prefixing {
    /// The names agree.
    Same,
    /// A base class reads a checkpoint that a head class saved: names there have the base model's prefix.
    Add,
    /// A head class reads a checkpoint of the base model: names there lack the prefix.
    Strip,
}

/// The weights of a checkpoint as one class sees them.
pub struct Weights {
    checkpoint: Checkpoint,
    class: String,
    base_prefix: &'static str,
    is_base: bool,
    prefixing: Prefixing,
    aliases: Vec<(String, String)>,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    /// Tensors handed out, by checkpoint name.
    taken: BTreeMap<String, Tensor>,
    used: BTreeSet<String>,
    issues: BTreeMap<String, WeightIssue>,
    zeros: Option<Arc<memmap2::Mmap>>,
}

impl Weights {
    /// Weights for `class`. `base_prefix` is transformers' `base_model_prefix`; `is_base` says that the class is the
    /// base model itself, whose names carry no prefix.
    pub fn new(checkpoint: Checkpoint, class: &str, base_prefix: &'static str, is_base: bool) -> Self {
        let with_dot = format!("{base_prefix}.");
        let present = !base_prefix.is_empty() && checkpoint.names().any(|n| n.starts_with(&with_dot));
        let prefixing = match (base_prefix.is_empty(), is_base, present) {
            (false, true, true) => Prefixing::Add,
            (false, false, false) => Prefixing::Strip,
            _ => Prefixing::Same,
        };
        Weights {
            checkpoint,
            class: class.to_string(),
            base_prefix,
            is_base,
            prefixing,
            aliases: Vec::new(),
            state: RefCell::default(),
        }
    }

    /// Says that two names of the class are one tied weight: where the checkpoint has only one of them, it stands for
    /// both. A second copy in the checkpoint is left alone.
    pub fn tie(&mut self, name: &str, other: &str) {
        self.aliases.push((name.to_string(), other.to_string()));
        self.aliases.push((other.to_string(), name.to_string()));
        for name in [name, other] {
            let (stored, present) = self.locate_plain(name);
            if present {
                self.state.borrow_mut().used.insert(stored);
            }
        }
    }

    /// Leaves all weights whose names start so to another graph: nothing is checked about them.
    pub fn leave(&self, prefix: &str) {
        let mut state = self.state.borrow_mut();
        state.used.extend(self.checkpoint.names().filter(|n| n.starts_with(prefix)).map(str::to_string));
    }

    /// The scope of the whole class.
    pub fn root(&self) -> WeightScope<'_> {
        WeightScope { weights: self, prefix: String::new() }
    }

    /// The scope of the base model within the class: the whole class when it is the base model.
    pub fn base(&self) -> WeightScope<'_> {
        if self.is_base { self.root() } else { self.root().sub(self.base_prefix) }
    }

    /// The name that a weight of the class has in the checkpoint, and whether it is there. Legacy LayerNorm names and
    /// tied weights are followed.
    fn locate(&self, name: &str) -> (String, bool) {
        let (stored, present) = self.locate_plain(name);
        if present {
            return (stored, true);
        }
        let other = self.aliases.iter().find(|(alias, _)| alias == name);
        match other.map(|(_, other)| self.locate_plain(other)) {
            Some((other, true)) => (other, true),
            _ => (stored, false),
        }
    }

    fn locate_plain(&self, name: &str) -> (String, bool) {
        let prefixed = match self.prefixing {
            Prefixing::Same => name.to_string(),
            Prefixing::Add => format!("{}.{name}", self.base_prefix),
            Prefixing::Strip => {
                let rest = name.strip_prefix(self.base_prefix).and_then(|rest| rest.strip_prefix('.'));
                rest.unwrap_or(name).to_string()
            }
        };
        if self.checkpoint.entry(&prefixed).is_some() {
            return (prefixed, true);
        }
        for (modern, legacy) in [(".weight", ".gamma"), (".bias", ".beta")] {
            if let Some(stem) = prefixed.strip_suffix(modern) {
                let old = format!("{stem}{legacy}");
                if self.checkpoint.entry(&old).is_some() {
                    return (old, true);
                }
            }
        }
        (prefixed, false)
    }

    /// Notes what is wrong with a weight; its name in the checkpoint when nothing is.
    fn check(&self, name: &str, shape: &[usize]) -> Option<String> {
        let (stored, present) = self.locate(name);
        let mut state = self.state.borrow_mut();
        state.used.insert(stored.clone());
        let entry = self.checkpoint.entry(&stored).filter(|_| present);
        let issue = match entry {
            None => WeightIssue::Missing { name: stored.clone(), shape: shape.to_vec() },
            Some(entry) if entry.shape() != shape => WeightIssue::Misshapen {
                name: stored.clone(),
                expected: shape.to_vec(),
                found: entry.shape().to_vec(),
            },
            Some(entry) if !entry.dtype().is_float() => {
                WeightIssue::NotFloat { name: stored.clone(), found: entry.dtype() }
            }
            Some(_) => return Some(stored),
        };
        state.issues.insert(stored, issue);
        None
    }

    fn take(&self, name: &str, shape: &[usize]) -> Result<Tensor, FrontendError> {
        let Some(stored) = self.check(name, shape) else { return self.placeholder(shape) };
        if let Some(tensor) = self.state.borrow().taken.get(&stored) {
            return Ok(tensor.clone());
        }
        let tensor = self.checkpoint.tensor(&stored)?;
        let tensor = tensor.cast(DType::F32).map_err(|e| CheckpointError::Damaged {
            file: self.checkpoint.files().collect::<Vec<_>>().join(", "),
            damage: super::Damage::whole(e.into()).of(&stored),
        })?;
        self.state.borrow_mut().taken.insert(stored, tensor.clone());
        Ok(tensor)
    }

    /// Zeros in place of a weight that is missing: one map of untouched memory serves them all, as a config may ask
    /// for gigabytes that no checkpoint has.
    fn placeholder(&self, shape: &[usize]) -> Result<Tensor, FrontendError> {
        let io = |source| FrontendError::Io { path: "memory for a missing weight".into(), source };
        let too_large = || io(std::io::ErrorKind::OutOfMemory.into());
        let bytes = element_count(shape).and_then(|n| n.checked_mul(4)).ok_or_else(too_large)?;
        let mut state = self.state.borrow_mut();
        let zeros = match state.zeros.as_ref().filter(|z| z.len() >= bytes) {
            Some(zeros) => zeros.clone(),
            None => {
                let map = memmap2::MmapOptions::new().len(bytes.max(1)).no_reserve_swap().map_anon();
                Arc::new(map.and_then(memmap2::MmapMut::make_read_only).map_err(io)?)
            }
        };
        state.zeros = Some(zeros.clone());
        let storage = Storage::shared(zeros, 0, bytes).ok_or_else(too_large)?;
        Tensor::from_storage(DType::F32, shape, storage).map_err(|_| too_large())
    }

    /// Reports everything that did not fit. `ignorable` are patterns (`*` matches any text) of names that a checkpoint
    /// of this architecture may hold without this class using them: buffers, and other heads.
    pub fn finish(&self, ignorable: &[&str]) -> Result<(), FrontendError> {
        let state = self.state.borrow();
        let with_dot = format!("{}.", self.base_prefix);
        let unexpected = self
            .checkpoint
            .names()
            .filter(|name| !state.used.contains(*name))
            .filter(|name| {
                let inner = name.strip_prefix(&with_dot);
                // A base class leaves the heads of the class that saved the checkpoint alone.
                let foreign_head = self.prefixing == Prefixing::Add && inner.is_none();
                let plain = if self.base_prefix.is_empty() { name } else { inner.unwrap_or(name) };
                !foreign_head && !ignorable.iter().any(|pattern| matches_pattern(pattern, plain))
            })
            .map(|name| WeightIssue::Unexpected {
                name: name.to_string(),
                shape: self.checkpoint.entry(name).map(|e| e.shape().to_vec()).unwrap_or_default(),
            });
        let issues: Vec<WeightIssue> = state.issues.values().cloned().chain(unexpected).collect();
        if issues.is_empty() {
            return Ok(());
        }
        Err(FrontendError::Weights(Box::new(WeightReport { class: self.class.clone(), issues })))
    }
}

/// A place in the hierarchy of weight names, such as `encoder.layer.0.attention`.
#[derive(Clone)]
pub struct WeightScope<'w> {
    weights: &'w Weights,
    prefix: String,
}

impl<'w> WeightScope<'w> {
    /// The scope below this one.
    pub fn sub(&self, name: impl fmt::Display) -> WeightScope<'w> {
        WeightScope { weights: self.weights, prefix: self.path(name) }
    }

    /// Full name of a weight in this scope, as the class spells it.
    pub fn path(&self, name: impl fmt::Display) -> String {
        if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) }
    }

    /// The scope's own name, without a weight's.
    pub fn path_of_scope(&self) -> &str {
        &self.prefix
    }

    /// Says that the class has this weight although the graph being built does not use it: its presence and shape
    /// are checked, its data is not read.
    pub fn expect(&self, name: impl fmt::Display, shape: &[usize]) {
        self.weights.check(&self.path(name), shape);
    }

    /// The same, and whether all is well with it.
    pub fn fits(&self, name: impl fmt::Display, shape: &[usize]) -> bool {
        self.weights.check(&self.path(name), shape).is_some()
    }

    /// Stands in for a weight made of others that do not fit. All such share their memory.
    pub fn zeros(&self, shape: &[usize]) -> Result<Tensor, FrontendError> {
        self.weights.placeholder(shape)
    }

    /// Name under which the checkpoint stores a weight of this scope.
    pub fn stored_name(&self, name: impl fmt::Display) -> String {
        self.weights.locate(&self.path(name)).0
    }

    /// True when the checkpoint has this weight.
    pub fn has(&self, name: impl fmt::Display) -> bool {
        self.weights.locate(&self.path(name)).1
    }

    /// A float weight as f32. A missing or misshapen one is noted for the report, and zeros stand in for it, so that
    /// building goes on and finds the rest.
    pub fn get(&self, name: impl fmt::Display, shape: &[usize]) -> Result<Tensor, FrontendError> {
        self.weights.take(&self.path(name), shape)
    }

    /// A weight under weight normalisation (Salimans and Kingma 2016, arXiv:1602.07868) over all axes but `axis`,
    /// folded into the plain weight. Reads `weight_g` and `weight_v`, `parametrizations.weight.original0` and `1`
    /// (torch.nn.utils.parametrizations.weight_norm), or a plain `weight` folded earlier.
    pub fn weight_norm(&self, shape: &[usize], axis: usize) -> Result<Tensor, FrontendError> {
        let spellings = [
            ("weight_g", "weight_v"),
            ("parametrizations.weight.original0", "parametrizations.weight.original1"),
        ];
        let found = spellings.into_iter().find(|(g, v)| self.has(g) || self.has(v));
        let (g, v) = match found {
            Some(pair) => pair,
            None if self.has("weight") => return self.get("weight", shape),
            None => ("parametrizations.weight.original0", "parametrizations.weight.original1"),
        };
        let magnitude: Vec<usize> =
            shape.iter().enumerate().map(|(i, &extent)| if i == axis { extent } else { 1 }).collect();
        if !self.fits(g, &magnitude) | !self.fits(v, shape) {
            return self.zeros(shape);
        }
        let magnitude = self.get(g, &magnitude)?;
        let direction = self.get(v, shape)?;
        fold_weight_norm(&direction, &magnitude, axis).map_err(|e| {
            FrontendError::from(CheckpointError::Damaged {
                file: self.weights.checkpoint.files().collect::<Vec<_>>().join(", "),
                damage: super::Damage::whole(e.into()).of(&self.path(v)),
            })
        })
    }
}

/// `g * v / |v|`, the norm taken over all axes but `axis`.
fn fold_weight_norm(v: &Tensor, g: &Tensor, axis: usize) -> Result<Tensor, frit_ir::TensorError> {
    let mut values = v.to_f32_vec();
    let extent = v.shape().get(axis).copied().unwrap_or(1).max(1);
    let inner: usize = v.shape().iter().skip(axis + 1).product::<usize>().max(1);
    let mut squares = vec![0f64; extent];
    for slab in values.chunks(inner * extent) {
        for (sum, run) in squares.iter_mut().zip(slab.chunks(inner)) {
            *sum += run.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
        }
    }
    let scales: Vec<f32> =
        g.to_f32_vec().iter().zip(&squares).map(|(&g, &s)| (f64::from(g) / s.sqrt()) as f32).collect();
    for slab in values.chunks_mut(inner * extent) {
        for (scale, run) in scales.iter().zip(slab.chunks_mut(inner)) {
            run.iter_mut().for_each(|x| *x *= scale);
        }
    }
    Tensor::from_slice(v.shape(), &values)
}

/// One difference between a class and a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WeightIssue {
    /// The class needs a weight that the checkpoint lacks.
    Missing {
        /// Name it would have in the checkpoint.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// The weight has another shape.
    Misshapen {
        /// Name in the checkpoint.
        name: String,
        /// Shape that the class and its config give.
        expected: Vec<usize>,
        /// Shape in the checkpoint.
        found: Vec<usize>,
    },
    /// The weight's elements are not floats.
    NotFloat {
        /// Name in the checkpoint.
        name: String,
        /// Its element type.
        found: DType,
    },
    /// The checkpoint holds a weight that the class does not have.
    Unexpected {
        /// Name in the checkpoint.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
}

impl fmt::Display for WeightIssue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WeightIssue::Missing { name, shape } => write!(f, "missing     {name} {shape:?}"),
            WeightIssue::Misshapen { name, expected, found } => {
                write!(f, "misshapen   {name}: expected {expected:?}, found {found:?}")
            }
            WeightIssue::NotFloat { name, found } => {
                write!(f, "not float   {name}: elements of type {found}")
            }
            WeightIssue::Unexpected { name, shape } => write!(f, "unexpected  {name} {shape:?}"),
        }
    }
}

/// Every difference between a class and a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightReport {
    /// The class.
    pub class: String,
    /// The differences: missing and misshapen ones by name, then unexpected ones by name.
    pub issues: Vec<WeightIssue>,
}

impl fmt::Display for WeightReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.issues.len();
        write!(
            f,
            "the checkpoint does not fit {} ({n} weight{}):",
            self.class,
            if n == 1 { "" } else { "s" }
        )?;
        for issue in &self.issues {
            write!(f, "\n  {issue}")?;
        }
        Ok(())
    }
}

/// `*` matches any text, also none; everything else matches itself.
fn matches_pattern(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or(""),
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(tensors: &[(&str, &[usize])]) -> Checkpoint {
        let data: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
            .iter()
            .map(|(name, shape)| {
                (name.to_string(), shape.to_vec(), vec![0; 4 * shape.iter().product::<usize>()])
            })
            .collect();
        let views = data.iter().map(|(name, shape, bytes)| {
            (
                name,
                safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap(),
            )
        });
        let bytes = safetensors::serialize(views, None).unwrap();
        Checkpoint::parse_bytes("test", Arc::new(bytes)).unwrap()
    }

    #[test]
    fn everything_wrong_is_reported_at_once() {
        let file =
            checkpoint(&[("bert.a.weight", &[2, 3]), ("bert.odd", &[1]), ("bert.position_ids", &[1, 4])]);
        let weights = Weights::new(file, "BertThing", "bert", false);
        let base = weights.base();
        base.sub("a").get("weight", &[3, 2]).unwrap();
        base.sub("a").get("bias", &[3]).unwrap();
        weights.root().get("head.weight", &[5]).unwrap();
        let Err(FrontendError::Weights(report)) = weights.finish(&["position_ids"]) else {
            panic!("no report")
        };
        let names: Vec<String> = report.issues.iter().map(ToString::to_string).collect();
        assert_eq!(
            names,
            [
                "missing     bert.a.bias [3]",
                "misshapen   bert.a.weight: expected [3, 2], found [2, 3]",
                "missing     head.weight [5]",
                "unexpected  bert.odd [1]",
            ]
        );
    }

    #[test]
    fn the_base_prefix_may_be_there_or_not() {
        for (stored, is_base) in [("bert.x", true), ("x", true), ("bert.x", false), ("x", false)] {
            let weights =
                Weights::new(checkpoint(&[(stored, &[2]), ("bert_head", &[1])]), "C", "bert", is_base);
            assert!(weights.base().has("x"), "{stored} {is_base}");
            weights.base().get("x", &[2]).unwrap();
            assert!(weights.finish(&["bert_head"]).is_ok(), "{stored} {is_base}");
        }
    }

    #[test]
    fn legacy_layer_norm_names_are_found() {
        let weights = Weights::new(checkpoint(&[("n.gamma", &[2]), ("n.beta", &[2])]), "C", "", true);
        weights.root().sub("n").get("weight", &[2]).unwrap();
        weights.root().sub("n").get("bias", &[2]).unwrap();
        weights.finish(&[]).unwrap();
    }

    #[test]
    fn weight_norm_folds_to_magnitude_times_direction() {
        let v = Tensor::from_slice(&[2, 1, 2], &[3f32, 0.0, 4.0, 2.0]).unwrap();
        let g = Tensor::from_slice(&[1, 1, 2], &[10f32, 1.0]).unwrap();
        assert_eq!(fold_weight_norm(&v, &g, 2).unwrap().to_f32_vec(), [6.0, 0.0, 8.0, 1.0]);
    }

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*.bias", "x.bias", true),
            ("*.bias", "x.bias.y", false),
            ("h.*.attn.*", "h.1.attn.bias", true),
            ("h.*.attn.*", "g.1.attn.bias", false),
            ("*b*", "abc", true),
        ] {
            assert_eq!(matches_pattern(pattern, name), expected, "{pattern} {name}");
        }
    }
}
