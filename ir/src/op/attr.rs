//! Attributes of ops: the closed set of attribute values and the macro that declares an op's struct from them.
//! What an op means does not belong here.

use crate::dim::Dim;
use crate::dtype::DType;
use crate::types::TensorType;
use std::fmt;

/// The value of an attribute, as the text format and the artifact hold it.
#[derive(Clone, Debug, PartialEq)]
pub enum Attr {
    /// An integer.
    Int(i64),
    /// A number.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A word from a closed set, or free text.
    Str(String),
    /// An element type.
    DType(DType),
    /// Symbolic integers: a shape, offsets.
    Dims(Vec<Dim>),
    /// Integers: axes, a permutation, strides.
    Ints(Vec<i64>),
    /// Numbers.
    Floats(Vec<f64>),
    /// Types of values.
    Types(Vec<TensorType>),
    /// Nested lists, for chains of fused operations.
    List(Vec<Attr>),
    /// An optional attribute left out.
    Absent,
}

/// A Rust type that can be an attribute.
pub trait AttrValue: Clone + PartialEq {
    /// What to call such a value in documentation and errors.
    const KIND: &'static str;
    /// The attribute's value.
    fn to_attr(&self) -> Attr;
    /// Reads the value back; None when it is of another kind.
    fn from_attr(attr: &Attr) -> Option<Self>;
}

macro_rules! attr_value {
    ($($t:ty, $kind:literal, $variant:ident);* $(;)?) => {$(
        impl AttrValue for $t {
            const KIND: &'static str = $kind;
            fn to_attr(&self) -> Attr { Attr::$variant(self.clone()) }
            fn from_attr(attr: &Attr) -> Option<Self> {
                match attr { Attr::$variant(v) => Some(v.clone()), _ => None }
            }
        }
    )*};
}
attr_value! {
    i64, "integer", Int;
    bool, "bool", Bool;
    String, "string", Str;
    DType, "dtype", DType;
    Vec<f64>, "numbers", Floats;
    Vec<TensorType>, "types", Types;
    Vec<Attr>, "list", List;
}

impl AttrValue for Vec<String> {
    const KIND: &'static str = "strings";
    fn to_attr(&self) -> Attr {
        Attr::List(self.iter().cloned().map(Attr::Str).collect())
    }
    fn from_attr(attr: &Attr) -> Option<Self> {
        match attr {
            Attr::List(v) => v.iter().map(String::from_attr).collect(),
            _ => None,
        }
    }
}

impl AttrValue for f64 {
    const KIND: &'static str = "number";
    fn to_attr(&self) -> Attr {
        Attr::Float(*self)
    }
    fn from_attr(attr: &Attr) -> Option<Self> {
        match attr {
            Attr::Float(v) => Some(*v),
            Attr::Int(v) => Some(*v as f64),
            _ => None,
        }
    }
}

impl AttrValue for Vec<i64> {
    const KIND: &'static str = "integers";
    fn to_attr(&self) -> Attr {
        Attr::Ints(self.clone())
    }
    fn from_attr(attr: &Attr) -> Option<Self> {
        match attr {
            Attr::Ints(v) => Some(v.clone()),
            Attr::Dims(v) => v.iter().map(Dim::as_const).collect(),
            _ => None,
        }
    }
}

impl AttrValue for Vec<Dim> {
    const KIND: &'static str = "dims";
    fn to_attr(&self) -> Attr {
        Attr::Dims(self.clone())
    }
    fn from_attr(attr: &Attr) -> Option<Self> {
        match attr {
            Attr::Dims(v) => Some(v.clone()),
            Attr::Ints(v) => Some(v.iter().map(|&n| Dim::constant(n)).collect()),
            _ => None,
        }
    }
}

impl AttrValue for Dim {
    const KIND: &'static str = "dim";
    fn to_attr(&self) -> Attr {
        Attr::Dims(vec![self.clone()])
    }
    fn from_attr(attr: &Attr) -> Option<Self> {
        match attr {
            Attr::Dims(v) => match v.as_slice() {
                [d] => Some(d.clone()),
                _ => None,
            },
            Attr::Int(n) => Some(Dim::constant(*n)),
            Attr::Ints(v) => match v.as_slice() {
                [n] => Some(Dim::constant(*n)),
                _ => None,
            },
            _ => None,
        }
    }
}

impl<T: AttrValue> AttrValue for Option<T> {
    const KIND: &'static str = T::KIND;
    fn to_attr(&self) -> Attr {
        self.as_ref().map_or(Attr::Absent, T::to_attr)
    }
    fn from_attr(attr: &Attr) -> Option<Self> {
        match attr {
            Attr::Absent => Some(None),
            other => T::from_attr(other).map(Some),
        }
    }
}

/// A named attribute with its value.
pub type NamedAttr = (&'static str, Attr);

/// What is declared about one attribute.
#[derive(Clone, Debug)]
pub struct AttrSpec {
    /// Name in the text format.
    pub name: &'static str,
    /// Kind of value.
    pub kind: &'static str,
    /// Documentation.
    pub doc: &'static str,
    /// Value when left out, if it may be.
    pub default: Option<Attr>,
}

/// An attribute that an op could not take.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AttrError {
    /// No such attribute.
    #[error("{op} has no attribute `{name}`; it has {known}")]
    Unknown {
        /// Op name.
        op: &'static str,
        /// Attribute given.
        name: String,
        /// Attributes that exist.
        known: String,
    },
    /// A required attribute is missing.
    #[error("{op} needs attribute `{name}` ({kind})")]
    Missing {
        /// Op name.
        op: &'static str,
        /// Attribute needed.
        name: &'static str,
        /// Its kind.
        kind: &'static str,
    },
    /// The value is of another kind.
    #[error("attribute `{name}` of {op} must be {kind}, got {got}")]
    Kind {
        /// Op name.
        op: &'static str,
        /// Attribute.
        name: &'static str,
        /// Kind expected.
        kind: &'static str,
        /// Value found.
        got: String,
    },
}

impl fmt::Display for Attr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn list<T>(
            f: &mut fmt::Formatter<'_>,
            v: &[T],
            each: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
        ) -> fmt::Result {
            f.write_str("[")?;
            for (i, x) in v.iter().enumerate() {
                if i > 0 {
                    f.write_str(", ")?;
                }
                each(f, x)?;
            }
            f.write_str("]")
        }
        match self {
            Attr::Int(v) => write!(f, "{v}"),
            Attr::Float(v) => write!(f, "{v:?}"),
            Attr::Bool(v) => write!(f, "{v}"),
            Attr::Str(v) => write!(f, "{v:?}"),
            Attr::DType(v) => write!(f, "{v}"),
            Attr::Dims(v) => list(f, v, |f, d| write!(f, "{d}")),
            Attr::Ints(v) => list(f, v, |f, n| write!(f, "{n}")),
            Attr::Floats(v) => list(f, v, |f, x| write!(f, "{x:?}")),
            Attr::Types(v) => list(f, v, |f, t| write!(f, "{t}")),
            Attr::List(v) => list(f, v, |f, a| write!(f, "{a}")),
            Attr::Absent => f.write_str("none"),
        }
    }
}

/// Implemented by [`op_struct!`](crate::op_struct) for every op: its attributes as data.
pub trait Attributes: Sized {
    /// Name of the op, ONNX's where ONNX has it.
    const NAME: &'static str;
    /// Documentation.
    const DOC: &'static str;
    /// The attributes declared.
    fn specs() -> Vec<AttrSpec>;
    /// The attributes' values, in declaration order.
    fn attrs(&self) -> Vec<NamedAttr>;
    /// Builds the op from named values; those left out take their defaults.
    fn from_attrs(attrs: &[(String, Attr)]) -> Result<Self, AttrError>;
}

/// Takes the attribute `name` out of a list, or its default. For the macro only.
#[doc(hidden)]
pub fn take<T: AttrValue>(
    op: &'static str,
    name: &'static str,
    attrs: &[(String, Attr)],
    default: Option<T>,
) -> Result<T, AttrError> {
    match attrs.iter().find(|(n, _)| n == name) {
        Some((_, a)) => {
            T::from_attr(a).ok_or_else(|| AttrError::Kind { op, name, kind: T::KIND, got: a.to_string() })
        }
        None => default.ok_or(AttrError::Missing { op, name, kind: T::KIND }),
    }
}

/// Refuses attributes that the op does not have. For the macro only.
#[doc(hidden)]
pub fn refuse_unknown(
    op: &'static str,
    known: &[&'static str],
    attrs: &[(String, Attr)],
) -> Result<(), AttrError> {
    match attrs.iter().find(|(n, _)| !known.contains(&n.as_str())) {
        Some((n, _)) => Err(AttrError::Unknown { op, name: n.clone(), known: known.join(", ") }),
        None => Ok(()),
    }
}

/// Declares an op's struct: its name, documentation and attributes with kinds and defaults.
///
/// ```ignore
/// op_struct! {
///     /// Normalised exponentials along one axis.
///     pub struct Softmax = "Softmax" {
///         /// The axis; counts from the end when negative.
///         pub axis: i64 = -1,
///     }
/// }
/// ```
#[macro_export]
macro_rules! op_struct {
    (
        $(#[doc = $doc:literal])*
        pub struct $name:ident = $onnx:literal {
            $( $(#[doc = $fdoc:literal])* pub $field:ident : $ty:ty $(= $default:expr)? ),* $(,)?
        }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name { $( $(#[doc = $fdoc])* pub $field: $ty, )* }

        impl $crate::op::attr::Attributes for $name {
            const NAME: &'static str = $onnx;
            const DOC: &'static str = concat!($($doc, "\n"),*);
            fn specs() -> Vec<$crate::op::attr::AttrSpec> {
                vec![$( $crate::op::attr::AttrSpec {
                    name: stringify!($field),
                    kind: <$ty as $crate::op::attr::AttrValue>::KIND,
                    doc: concat!($($fdoc, " "),*),
                    default: $crate::op_struct!(@default_attr $ty $(, $default)?),
                } ),*]
            }
            fn attrs(&self) -> Vec<$crate::op::attr::NamedAttr> {
                vec![$( (stringify!($field), $crate::op::attr::AttrValue::to_attr(&self.$field)) ),*]
            }
            fn from_attrs(attrs: &[(String, $crate::op::attr::Attr)]) -> Result<Self, $crate::op::attr::AttrError> {
                $crate::op::attr::refuse_unknown(Self::NAME, &[$(stringify!($field)),*], attrs)?;
                Ok(Self { $( $field: $crate::op::attr::take::<$ty>(
                    Self::NAME, stringify!($field), attrs, $crate::op_struct!(@default $ty $(, $default)?))?, )* })
            }
        }
    };
    (@default $ty:ty, $default:expr) => { Some($default) };
    (@default $ty:ty) => { None };
    (@default_attr $ty:ty, $default:expr) => {{ let v: $ty = $default; Some($crate::op::attr::AttrValue::to_attr(&v)) }};
    (@default_attr $ty:ty) => { None };
}

/// Declares an enum that is an attribute: its variants and the words they print as.
#[macro_export]
macro_rules! attr_enum {
    (
        $(#[doc = $doc:literal])*
        pub enum $name:ident { $( $(#[doc = $vdoc:literal])* $variant:ident = $word:literal ),* $(,)? }
    ) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $( $(#[doc = $vdoc])* $variant ),* }

        impl $name {
            /// Every variant, in declaration order.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];
            /// The word in the text format.
            pub const fn word(self) -> &'static str {
                match self { $($name::$variant => $word),* }
            }
            /// The variant of a word.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some($name::$variant),)* _ => None }
            }
            /// What each variant is.
            pub const fn doc(self) -> &'static str {
                match self { $($name::$variant => concat!($($vdoc, " "),*)),* }
            }
        }

        impl $crate::op::attr::AttrValue for $name {
            const KIND: &'static str = concat!("one of", $(" ", $word),*);
            fn to_attr(&self) -> $crate::op::attr::Attr { $crate::op::attr::Attr::Str(self.word().to_owned()) }
            fn from_attr(attr: &$crate::op::attr::Attr) -> Option<Self> {
                match attr { $crate::op::attr::Attr::Str(s) => Self::from_word(s), _ => None }
            }
        }
    };
}
