//! The runtime of frit: plan, artifact, engine, model, session, generation.
//! Nothing here builds or rewrites graphs; that is the compiler's business.

pub mod artifact;
mod control;
mod error;
pub mod generation;
mod memory;
mod model;
pub mod plan;
mod profile;
pub mod roofline;
mod session;
pub mod stepper;
mod work;

pub use error::{PlanError, RuntimeError};
pub use model::{BackendKind, Engine, EngineOptions, Model};
pub use profile::StepTime;
pub use session::{Outputs, Session};
