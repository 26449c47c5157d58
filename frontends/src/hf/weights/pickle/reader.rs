//! Checked reads of a pickle's bytes. Meaning of opcodes does not belong here.

use super::PickleError;
use super::value::Span;

/// A cursor over the input.
pub(super) struct Reader<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(data: &'a [u8], at: usize) -> Self {
        Reader { data, at }
    }

    pub fn position(&self) -> usize {
        self.at
    }

    pub fn span(&mut self, len: u64) -> Result<Span, PickleError> {
        let len = usize::try_from(len).map_err(|_| PickleError::Truncated)?;
        let end =
            self.at.checked_add(len).filter(|&end| end <= self.data.len()).ok_or(PickleError::Truncated)?;
        let span = Span { start: self.at, end };
        self.at = end;
        Ok(span)
    }

    pub fn bytes<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        let span = self.span(N as u64)?;
        span.of(self.data).try_into().map_err(|_| PickleError::Truncated)
    }

    pub fn u8(&mut self) -> Result<u8, PickleError> {
        Ok(u8::from_le_bytes(self.bytes()?))
    }

    pub fn u16(&mut self) -> Result<u16, PickleError> {
        Ok(u16::from_le_bytes(self.bytes()?))
    }

    pub fn u32(&mut self) -> Result<u32, PickleError> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    pub fn i32(&mut self) -> Result<i32, PickleError> {
        Ok(i32::from_le_bytes(self.bytes()?))
    }

    pub fn u64(&mut self) -> Result<u64, PickleError> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    /// Bytes up to a newline, which is skipped.
    pub fn line(&mut self) -> Result<Span, PickleError> {
        let rest = self.data.get(self.at..).unwrap_or(&[]);
        let len = rest.iter().position(|&b| b == b'\n').ok_or(PickleError::Truncated)?;
        let span = self.span(len as u64)?;
        self.at += 1;
        Ok(span)
    }

    /// UTF-8 text of a span.
    pub fn text(&self, span: Span) -> Result<&'a str, PickleError> {
        std::str::from_utf8(span.of(self.data)).map_err(|_| PickleError::Text)
    }
}
