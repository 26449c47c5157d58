//! `frit export`: a model becomes ONNX. What ONNX looks like is the frontend's business.

use super::args::{Export, ExportStage, ExternalData};
use super::{dims, print_json, print_text, signature};
use frit::export::{Exporting, Stage};
use frit::frontends::onnx::export::External;
use frit::load::LoadOptions;
use frit::{Error, tensors};
use std::time::Instant;

pub(super) fn export(a: &Export) -> Result<(), Error> {
    let begin = Instant::now();
    let like = a.inputs.as_deref().map(tensors::read).transpose()?;
    let options = Exporting {
        load: LoadOptions {
            head: a.part.head.clone(),
            entry: a.part.entry.clone(),
            signature: signature(like.as_ref(), a.fix.signature.as_deref()),
            select: a.part.select.clone(),
            dims: dims(&a.fix.dims)?,
            ..LoadOptions::default()
        },
        opset: a.opset,
        stage: match a.stage {
            ExportStage::Imported => Stage::Imported,
            ExportStage::Optimised => Stage::Optimised,
        },
        external: match a.external {
            ExternalData::Auto => External::Auto,
            ExternalData::Always => External::Always,
            ExternalData::Never => External::Never,
        },
        plain: a.plain,
    };
    let files = frit::export::export(&a.model, &a.output, &options)?;
    let seconds = begin.elapsed().as_secs_f64();
    if a.json {
        let list: Vec<_> =
            files.iter().map(|f| serde_json::json!({ "path": f.path, "bytes": f.bytes })).collect();
        return print_json(&serde_json::json!({ "opset": a.opset, "files": list, "export_s": seconds }));
    }
    let mut text = String::new();
    for f in &files {
        text.push_str(&format!("{}: {:.1} MB\n", f.path.display(), f.bytes as f64 / 1e6));
    }
    text.push_str(&format!("opset {}, in {seconds:.2} s\n", a.opset));
    print_text(&text)
}
