//! What a caller asks of a class: head, entry, inputs, outputs, fixed dimensions. Nothing is built here.

use frit_ir::DType;
use std::collections::BTreeMap;

/// An input that the caller will give, by its name in transformers' `forward`. Type and shape select among the forms
/// that an input may take (a mask of rank 2 or 3, labels of ints or floats); unknown ones take the usual form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputSpec {
    /// Name, dotted for members of tuples: `past_key_values.0.1`.
    pub name: String,
    /// Element type, when known.
    pub dtype: Option<DType>,
    /// Shape, when known.
    pub shape: Option<Vec<usize>>,
}

impl InputSpec {
    /// An input of which a tensor is at hand.
    pub fn of(name: &str, dtype: DType, shape: &[usize]) -> Self {
        InputSpec { name: name.to_string(), dtype: Some(dtype), shape: Some(shape.to_vec()) }
    }

    /// Number of axes, when known.
    pub fn rank(&self) -> Option<usize> {
        self.shape.as_ref().map(Vec::len)
    }
}

impl From<&str> for InputSpec {
    fn from(name: &str) -> Self {
        InputSpec { name: name.to_string(), dtype: None, shape: None }
    }
}

/// What to build from a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Class of transformers; None: the one that config.json names.
    pub head: Option<String>,
    /// Entry point; None: all that the class has.
    pub entry: Option<String>,
    /// Inputs of the first entry (or of the one named); None: those that the model's own processor makes.
    pub signature: Option<Vec<InputSpec>>,
    /// Outputs, a tuple's name for all its members; None: those that transformers gives by default.
    pub select: Option<Vec<String>>,
    /// Values of dimension symbols fixed while building: `batch`, `sequence`, `height`, ...
    pub dims: BTreeMap<String, usize>,
}

/// True when `selected` names `output` or the tuple that it is a member of.
pub(crate) fn selects(selected: &str, output: &str) -> bool {
    output.strip_prefix(selected).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::selects;

    #[test]
    fn a_tuple_name_selects_its_members() {
        assert!(selects("hidden_states", "hidden_states.3"));
        assert!(selects("past_key_values.0", "past_key_values.0.1"));
        assert!(selects("logits", "logits"));
        assert!(!selects("hidden", "hidden_states.3"));
        assert!(!selects("past_key_values.1", "past_key_values.10.0"));
    }
}
