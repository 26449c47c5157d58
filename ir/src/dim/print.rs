//! How dimensions print: as people write them, and as the text format reads them. No arithmetic belongs here.

use super::{Atom, Dim};
use std::fmt;

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.terms.is_empty() {
            return f.write_str("0");
        }
        // The constant sorts first; people write it last.
        let ordered =
            self.terms.iter().filter(|t| !t.0.is_empty()).chain(self.terms.iter().filter(|t| t.0.is_empty()));
        for (i, (m, c)) in ordered.enumerate() {
            match (i, *c < 0) {
                (0, true) => f.write_str("-")?,
                (0, false) => {}
                (_, true) => f.write_str(" - ")?,
                (_, false) => f.write_str(" + ")?,
            }
            let magnitude = c.unsigned_abs();
            let mut first = true;
            if m.is_empty() || magnitude != 1 {
                write!(f, "{magnitude}")?;
                first = false;
            }
            let count: u32 = m.iter().map(|(_, e)| *e).sum();
            for (atom, e) in m {
                for _ in 0..*e {
                    if !first {
                        f.write_str(" * ")?;
                    }
                    first = false;
                    match atom {
                        Atom::Symbol(s) => write!(f, "{}", crate::name::Name(s))?,
                        Atom::Max(a, b) => write!(f, "max({a}, {b})")?,
                        Atom::Min(a, b) => write!(f, "min({a}, {b})")?,
                        Atom::FloorDiv(a, b) => {
                            let alone = count == 1 && magnitude == 1 && *c > 0;
                            if !alone {
                                f.write_str("(")?;
                            }
                            write_factor(f, a)?;
                            f.write_str(" / ")?;
                            write_factor(f, b)?;
                            if !alone {
                                f.write_str(")")?;
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

fn write_factor(f: &mut fmt::Formatter<'_>, d: &Dim) -> fmt::Result {
    match (d.as_symbol(), d.as_fixed()) {
        (None, None) => write!(f, "({d})"),
        _ => write!(f, "{d}"),
    }
}

impl fmt::Debug for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
