//! What a pickle may describe, and the arenas that hold it. Nothing is executed or read here.

use frit_ir::DType;

/// A range of the input's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// The bytes of the span in the input that it was made from.
    pub fn of<'a>(&self, data: &'a [u8]) -> &'a [u8] {
        data.get(self.start..self.end).unwrap_or(&[])
    }
}

/// The imports that a state dict may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Import {
    /// `collections.OrderedDict`
    OrderedDict,
    /// `torch._utils._rebuild_tensor_v2` (and its predecessor `_rebuild_tensor`)
    RebuildTensor,
    /// `torch._utils._rebuild_parameter`
    RebuildParameter,
    /// `torch.FloatStorage` and its like
    Storage(DType),
    /// `torch.Size`
    Size,
    /// `torch.float32` and its like: carried, never used
    ElementType,
}

/// A value; containers, storages and tensors are indices into the [`Arena`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// Python's None, and what stands for attributes that are not read.
    None,
    /// A bool.
    Bool(bool),
    /// An int of up to 64 bits.
    Int(i64),
    /// An int of more bits: its little-endian bytes.
    LongInt(Span),
    /// A float.
    Float(f64),
    /// UTF-8 text.
    Text(Span),
    /// Bytes.
    Bytes(Span),
    /// A listed import.
    Import(Import),
    /// A tuple (or torch.Size).
    Tuple(usize),
    /// A list.
    List(usize),
    /// A dict or OrderedDict.
    Dict(usize),
    /// A persistent storage.
    Storage(usize),
    /// A tensor.
    Tensor(usize),
}

/// A storage that the pickle refers to; its bytes lie elsewhere in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageRef {
    /// Element type.
    pub dtype: DType,
    /// Name of the storage in the file.
    pub key: String,
    /// Elements that it should hold.
    pub elements: u64,
}

/// A tensor over a storage, in torch's terms (offset and strides in elements).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorRef {
    /// Index of its storage in the arena.
    pub storage: usize,
    /// First element.
    pub offset: u64,
    /// Extents.
    pub shape: Vec<u64>,
    /// Strides.
    pub strides: Vec<u64>,
    /// Byte offset in the pickle where it was built, for errors.
    pub built_at: usize,
}

/// Containers, storages and tensors of a pickle.
#[derive(Debug, Default)]
pub struct Arena {
    /// Tuples.
    pub tuples: Vec<Vec<Value>>,
    /// Lists.
    pub lists: Vec<Vec<Value>>,
    /// Dicts, in insertion order; a repeated key stays repeated.
    pub dicts: Vec<Vec<(Value, Value)>>,
    /// Storages.
    pub storages: Vec<StorageRef>,
    /// Tensors.
    pub tensors: Vec<TensorRef>,
}

impl Arena {
    /// Items of a tuple or list.
    pub fn items(&self, value: Value) -> Option<&[Value]> {
        match value {
            Value::Tuple(i) => self.tuples.get(i).map(Vec::as_slice),
            Value::List(i) => self.lists.get(i).map(Vec::as_slice),
            _ => None,
        }
    }

    /// Pairs of a dict.
    pub fn pairs(&self, value: Value) -> Option<&[(Value, Value)]> {
        match value {
            Value::Dict(i) => self.dicts.get(i).map(Vec::as_slice),
            _ => None,
        }
    }

    /// Adds a tuple.
    pub fn tuple(&mut self, items: Vec<Value>) -> Value {
        self.tuples.push(items);
        Value::Tuple(self.tuples.len() - 1)
    }

    /// Adds a dict.
    pub fn dict(&mut self, pairs: Vec<(Value, Value)>) -> Value {
        self.dicts.push(pairs);
        Value::Dict(self.dicts.len() - 1)
    }

    /// Adds a list.
    pub fn list(&mut self, items: Vec<Value>) -> Value {
        self.lists.push(items);
        Value::List(self.lists.len() - 1)
    }
}
