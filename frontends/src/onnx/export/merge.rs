//! Joins the two forms of a decoder into one model. To come.
