//! A JSON object of settings with typed access: each wrong value becomes an error that names file and key.
//! Which keys there are, and their defaults, belongs to the processors.

use crate::error::{Error, Result, shorten};
use serde_json::{Map, Value};

/// A JSON object read from a named file. A key that is absent and one that is `null` are the same: not set.
#[derive(Clone, Debug, PartialEq)]
pub struct Doc {
    file: String,
    /// Keys above this object, with a dot after each.
    prefix: String,
    root: Map<String, Value>,
}

impl Doc {
    /// Parses a file's text, which must hold one JSON object.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text).map_err(|e| Error::Json {
            file: file.to_owned(),
            line: e.line(),
            column: e.column(),
            message: e.to_string(),
        })?;
        match value {
            Value::Object(root) => Ok(Doc { file: file.to_owned(), prefix: String::new(), root }),
            other => Err(Error::Value {
                file: file.to_owned(),
                key: "the whole file".to_owned(),
                expected: "an object".to_owned(),
                got: shorten(&other.to_string()),
            }),
        }
    }

    /// An object without keys.
    pub fn empty(file: &str) -> Self {
        Doc { file: file.to_owned(), prefix: String::new(), root: Map::new() }
    }

    /// The file's name.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The keys, in the file's order.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.root.iter().map(|(k, v)| (k.as_str(), v))
    }

    /// The value of a key that is set.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.root.get(key).filter(|v| !v.is_null())
    }

    /// The error for a value of the wrong kind.
    pub fn wrong(&self, key: &str, expected: impl Into<String>) -> Error {
        let got = self.root.get(key).map_or_else(|| "nothing".to_owned(), |v| shorten(&v.to_string()));
        Error::Value {
            file: self.file.clone(),
            key: format!("{}{key}", self.prefix),
            expected: expected.into(),
            got,
        }
    }

    /// The error for a value that nothing here implements.
    pub fn unsupported(&self, key: &str, supported: impl Into<String>) -> Error {
        let value = self.root.get(key).map_or_else(|| "nothing".to_owned(), |v| shorten(&v.to_string()));
        Error::Unsupported {
            file: self.file.clone(),
            key: format!("{}{key}", self.prefix),
            value,
            supported: supported.into(),
        }
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| self.wrong(key, expected)),
        }
    }

    /// True or false.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", Value::as_bool)
    }

    /// Text.
    pub fn str(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a string", Value::as_str)
    }

    /// A finite number.
    pub fn f64(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", |v| v.as_f64().filter(|x| x.is_finite()))
    }

    /// A whole number from 0; one beyond the address space reads as the largest.
    pub fn usize(&self, key: &str) -> Result<Option<usize>> {
        self.typed(key, "a whole number from 0", |v| match v.as_u64() {
            Some(n) => Some(usize::try_from(n).unwrap_or(usize::MAX)),
            // Python writes 1e30 out in full, which reads as a float here; the cast saturates.
            None => v.as_f64().filter(|x| *x >= 0.0 && x.fract() == 0.0).map(|x| x as usize),
        })
    }

    /// Several strings.
    pub fn strings(&self, key: &str) -> Result<Option<Vec<String>>> {
        self.typed(key, "a list of strings", |v| {
            v.as_array()?.iter().map(|s| s.as_str().map(str::to_owned)).collect()
        })
    }

    /// An object under a key; an empty one when the key is not set.
    pub fn object(&self, key: &str) -> Result<Doc> {
        let root = self.typed(key, "an object", Value::as_object)?.cloned().unwrap_or_default();
        Ok(Doc { file: self.file.clone(), prefix: format!("{}{key}.", self.prefix), root })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_file_and_key() {
        let doc = Doc::parse("a.json", r#"{"size": {"height": "x"}, "n": 1000000000000000019884624838656}"#)
            .unwrap();
        let error = doc.object("size").unwrap().usize("height").unwrap_err().to_string();
        assert_eq!(error, "a.json: size.height: expected a whole number from 0, got \"x\"");
        assert_eq!(doc.usize("n").unwrap(), Some(usize::MAX));
        assert_eq!(doc.usize("absent").unwrap(), None);
        let error = Doc::parse("a.json", "{\n  \"a\": }").unwrap_err();
        assert!(matches!(error, Error::Json { line: 2, .. }), "{error}");
        assert!(matches!(Doc::parse("a.json", "[1]"), Err(Error::Value { .. })));
    }
}
