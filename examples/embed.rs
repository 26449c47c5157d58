//! Embedding frit: load a model once, make a session, run it on tensors. Here on the digits model of this repository.
//! A native app would load a compiled .frit file instead of the folder; nothing else changes.

use frit::ir::Tensor;
use frit::{Error, LoadOptions, answer};

fn main() -> Result<(), Error> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/digits");
    let loaded = frit::load(&folder, &LoadOptions::default())?;

    // Raw input to an answer.
    let question =
        answer::Question { images: vec![folder.join("heldout/000.png")], top: 3, ..Default::default() };
    print!("{}", answer::answer(&loaded, &question)?);

    // Tensors in, tensors out.
    let mut session = loaded.model.session("forward")?;
    let pixels = Tensor::zeros(frit::ir::DType::F32, &[1, 3, 24, 24])?;
    let out = session.run(&[("pixel_values", &pixels)])?;
    println!("logits of a black image: {:?}", out.tensor("logits")?);
    Ok(())
}
