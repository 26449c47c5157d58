//! A restricted unpickler: it builds the containers, numbers and tensor descriptions of a state dict and nothing
//! else. No import outside a fixed list is resolved, nothing is ever called. Storages and files are not known here.
//!
//! Values live in arenas and refer to each other by index, so that nesting of any depth costs no call stack, and
//! every opcode makes at most a constant number of values, so that memory is bounded by the length of the input.

mod machine;
mod reader;
mod value;

pub use machine::parse;
pub use value::{Arena, StorageRef, TensorRef, Value};

/// Why a pickle was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PickleError {
    /// An import outside the list of what a state dict needs.
    #[error(
        "the pickle imports `{module}.{name}`; only tensors, containers and numbers are read, no code is run"
    )]
    Import {
        /// Python module.
        module: String,
        /// Name in it.
        name: String,
    },
    /// An opcode that state dicts do not use.
    #[error("pickle opcode 0x{0:02x} is not supported")]
    Opcode(u8),
    /// The input ends within an opcode.
    #[error("the pickle is truncated")]
    Truncated,
    /// An opcode takes more values than the stack holds.
    #[error("the pickle takes a value from an empty stack")]
    Stack,
    /// A memo entry that was never stored.
    #[error("the pickle refers to memo entry {0}, which does not exist")]
    Memo(u64),
    /// An operand of the wrong kind.
    #[error("the pickle is not valid: {expected} expected")]
    Operand {
        /// What should have been there.
        expected: &'static str,
    },
    /// Text that is not UTF-8.
    #[error("the pickle holds text that is not UTF-8")]
    Text,
    /// A call of a listed import with arguments of another form.
    #[error("`{callee}` is called with arguments of an unknown form")]
    Arguments {
        /// What is called.
        callee: &'static str,
    },
    /// A tensor storage of an element type without a counterpart here.
    #[error("tensor storage `{0}` is not supported")]
    Storage(String),
}
