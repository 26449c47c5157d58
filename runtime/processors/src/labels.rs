//! From scores to labels with probabilities: softmax, sigmoid, the best few, and config.json's names for them.
//! Which task a model is for does not belong here.

use crate::assets::Assets;
use crate::error::Result;
use serde::Serialize;
use std::collections::BTreeMap;

/// A label and its probability.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scored {
    /// Name of the class.
    pub label: String,
    /// Number of the class.
    pub id: usize,
    /// Its probability, 0 to 1.
    pub score: f32,
}

/// How scores become probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// One class of several.
    Softmax,
    /// Each class on its own.
    Sigmoid,
}

/// Names of classes, by config.json's `id2label`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    names: BTreeMap<usize, String>,
    multi_label: bool,
}

impl Labels {
    /// Reads `id2label` and `problem_type` of config.json.
    pub fn from_assets(assets: &Assets) -> Result<Self> {
        let config = assets.json("config.json")?;
        let table = config.object("id2label")?;
        let mut names = BTreeMap::new();
        for (id, name) in table.entries() {
            let number = id.parse().map_err(|_| table.wrong(id, "a class number as the key"))?;
            names.insert(number, name.as_str().ok_or_else(|| table.wrong(id, "a string"))?.to_owned());
        }
        let multi_label = config.str("problem_type")? == Some("multi_label_classification");
        Ok(Labels { names, multi_label })
    }

    /// The name of a class; `LABEL_n` where config.json gives none.
    pub fn name(&self, id: usize) -> String {
        self.names.get(&id).cloned().unwrap_or_else(|| format!("LABEL_{id}"))
    }

    /// The number of named classes.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// True when config.json names no class.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// How transformers' classification pipelines turn `classes` scores into probabilities.
    pub fn activation(&self, classes: usize) -> Activation {
        if self.multi_label || classes == 1 { Activation::Sigmoid } else { Activation::Softmax }
    }

    /// The best `k` classes of one row of logits, best first.
    pub fn best(&self, logits: &[f32], k: usize) -> Vec<Scored> {
        let scores = match self.activation(logits.len()) {
            Activation::Softmax => softmax(logits),
            Activation::Sigmoid => logits.iter().map(|&x| sigmoid(x)).collect(),
        };
        top_k(&scores, k).into_iter().map(|(id, score)| Scored { label: self.name(id), id, score }).collect()
    }
}

/// Softmax over a row, summed in f64. A row without a finite maximum gives equal shares.
pub fn softmax(logits: &[f32]) -> Vec<f32> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if !max.is_finite() {
        return vec![1.0 / logits.len().max(1) as f32; logits.len()];
    }
    let powers: Vec<f64> = logits.iter().map(|&x| f64::from(x - max).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|p| (p / sum) as f32).collect()
}

/// The logistic function.
pub fn sigmoid(x: f32) -> f32 {
    (1.0 / (1.0 + (-f64::from(x)).exp())) as f32
}

/// Numbers and values of the `k` largest, largest first; of equals the lower number first.
pub fn top_k(values: &[f32], k: usize) -> Vec<(usize, f32)> {
    let mut all: Vec<(usize, f32)> = values.iter().copied().enumerate().collect();
    let order = |a: &(usize, f32), b: &(usize, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if k == 0 {
        return Vec::new();
    }
    if k < all.len() {
        all.select_nth_unstable_by(k - 1, order);
        all.truncate(k);
    }
    all.sort_by(order);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_k_is_stable() {
        assert_eq!(top_k(&[1.0, 3.0, 3.0, 2.0], 3), [(1, 3.0), (2, 3.0), (3, 2.0)]);
        assert_eq!(top_k(&[1.0], 5), [(0, 1.0)]);
        assert!(top_k(&[], 5).is_empty());
        assert!(top_k(&[1.0], 0).is_empty());
    }

    #[test]
    fn one_class_is_a_sigmoid_and_names_fall_back() {
        let labels = Labels::default();
        let best = labels.best(&[0.0], 3);
        assert_eq!((best[0].label.as_str(), best[0].score), ("LABEL_0", 0.5));
        let best = labels.best(&[0.0, 2.0f32.ln()], 1);
        assert_eq!(best.len(), 1);
        assert!((best[0].score - 2.0 / 3.0).abs() < 1e-6);
        assert_eq!(softmax(&[f32::NEG_INFINITY; 2]), [0.5, 0.5]);
    }
}
