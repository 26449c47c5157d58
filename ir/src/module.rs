//! A model: named graphs that share one weight table. How graphs are built or run does not belong here.

use crate::graph::Graph;
use crate::tensor::Tensor;
use crate::types::TensorType;
use std::collections::HashMap;
use std::fmt;

/// A constant in the weight table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WeightId(pub u32);

impl WeightId {
    /// The position in the table.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for WeightId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weight{}", self.0)
    }
}

/// A named constant. A graph read from text has big weights without data.
#[derive(Clone, Debug, PartialEq)]
pub struct Weight {
    /// Unique name; the checkpoint's where it comes from one.
    pub name: String,
    /// Type, all extents fixed.
    pub ty: TensorType,
    /// The numbers.
    pub data: Option<Tensor>,
}

/// Every constant of a module.
#[derive(Clone, Debug, Default)]
pub struct WeightTable {
    entries: Vec<Weight>,
    by_name: HashMap<String, WeightId>,
    /// Small constants by content, so that equal ones are one.
    small: HashMap<(crate::DType, Vec<usize>, Vec<u8>), WeightId>,
}

/// Equal names, types and numbers in the same order.
impl PartialEq for WeightTable {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

/// Constants of at most this many elements print with their numbers and are shared by content.
pub const SMALL: usize = 16;

impl WeightTable {
    /// Adds a named weight; a taken name gets a numbered suffix.
    pub fn add(&mut self, name: &str, data: Tensor) -> WeightId {
        let ty = TensorType::new(data.dtype(), data.shape().iter().copied());
        self.insert(name, ty, Some(data))
    }

    /// Adds a weight without numbers, as a graph text declares it.
    pub fn declare(&mut self, name: &str, ty: TensorType) -> WeightId {
        self.insert(name, ty, None)
    }

    fn insert(&mut self, name: &str, ty: TensorType, data: Option<Tensor>) -> WeightId {
        let id = WeightId(u32::try_from(self.entries.len()).unwrap_or(u32::MAX));
        let mut unique = name.to_owned();
        let mut n = 1;
        while self.by_name.contains_key(&unique) {
            unique = format!("{name}.{n}");
            n += 1;
        }
        self.by_name.insert(unique.clone(), id);
        self.entries.push(Weight { name: unique, ty, data });
        id
    }

    /// Adds a constant that has no name of its own; small equal ones are shared.
    pub fn constant(&mut self, data: Tensor) -> WeightId {
        if data.len() > SMALL {
            let name = format!("k{}", self.entries.len());
            return self.add(&name, data);
        }
        let key = (data.dtype(), data.shape().to_vec(), data.bytes().to_vec());
        if let Some(id) = self.small.get(&key) {
            return *id;
        }
        let name = format!("c{}", self.small.len());
        let id = self.add(&name, data);
        self.small.insert(key, id);
        id
    }

    /// The weight of a handle.
    pub fn get(&self, id: WeightId) -> Option<&Weight> {
        self.entries.get(id.index())
    }

    /// The numbers of a weight, when known.
    pub fn data(&self, id: WeightId) -> Option<&Tensor> {
        self.get(id).and_then(|w| w.data.as_ref())
    }

    /// Looks a weight up by name.
    pub fn find(&self, name: &str) -> Option<WeightId> {
        self.by_name.get(name).copied()
    }

    /// Gives a declared weight its numbers.
    pub fn set_data(&mut self, id: WeightId, data: Tensor) {
        if let Some(w) = self.entries.get_mut(id.index()) {
            w.data = Some(data);
        }
    }

    /// All weights in order.
    pub fn iter(&self) -> impl Iterator<Item = (WeightId, &Weight)> {
        self.entries.iter().enumerate().map(|(i, w)| (WeightId(u32::try_from(i).unwrap_or(u32::MAX)), w))
    }

    /// Number of weights.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// A model: graphs by entry name over one weight table, and facts about it for people and tools.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Module {
    /// Entry points; the first is the default.
    pub graphs: Vec<Graph>,
    /// Every constant.
    pub weights: WeightTable,
    /// Facts in order: `class`, `model_type`, ...
    pub metadata: Vec<(String, String)>,
}

impl Module {
    /// The graph of an entry name.
    pub fn graph(&self, name: &str) -> Option<&Graph> {
        self.graphs.iter().find(|g| g.name == name)
    }

    /// Names of the graphs that control flow runs; they are no entry points.
    pub fn bodies(&self) -> std::collections::HashSet<&str> {
        self.graphs.iter().flat_map(|g| g.nodes()).flat_map(|(_, n)| n.op.bodies()).collect()
    }

    /// A fact by key.
    pub fn fact(&self, key: &str) -> Option<&str> {
        self.metadata.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }
}
