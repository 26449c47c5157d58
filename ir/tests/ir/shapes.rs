//! Shape inference over symbols.

use frit_ir::text::parse;
use frit_ir::{Dim, Module};

/// The type of the first output of the graph with this body, or the refusal.
fn ty(inputs: &str, weights: &str, body: &str) -> Result<String, String> {
    let text = format!("module {{ {weights} graph g({inputs}) {{ {body} }} }}");
    let m: Module = parse(&text).map_err(|e| e.to_string())?;
    let g = &m.graphs[0];
    Ok(g.ty(g.outputs[0].value).unwrap().to_string())
}

#[test]
fn wav2vec2_lengths_are_exact() {
    let weights = "weight @a: f32[512, 1, 10] weight @b: f32[512, 512, 3]";
    let first = "%0 = Conv(x, @a) {strides = [5], pads = [0, 0], dilations = [1]}";
    let x = "x: f32[batch, 1, samples]";
    assert_eq!(
        ty(x, weights, &format!("{first} return y = %0")).unwrap(),
        "f32[batch, 512, (samples - 10) / 5 + 1]"
    );
    let second = "%1 = Conv(%0, @b) {strides = [2], pads = [0, 0], dilations = [1]}";
    assert_eq!(
        ty(x, weights, &format!("{first} {second} return y = %1")).unwrap(),
        "f32[batch, 512, ((samples - 10) / 5 - 2) / 2 + 1]"
    );
}

#[test]
fn sums_products_and_quotients_of_symbols() {
    let ab = "a: f32[batch, past, 8], b: f32[batch, sequence, 8]";
    assert_eq!(
        ty(ab, "", "%0 = Concat(a, b) {axis = 1} return y = %0").unwrap(),
        "f32[batch, past + sequence, 8]"
    );
    let x = "x: f32[batch, sequence, 12]";
    assert_eq!(
        ty(x, "", "%0 = Reshape(x) {shape = [batch * sequence, 3, 4]} return y = %0").unwrap(),
        "f32[batch * sequence, 3, 4]"
    );
    let e = ty(x, "", "%0 = Reshape(x) {shape = [batch, 12]} return y = %0").unwrap_err();
    assert!(e.contains("`shape`") && e.contains("[batch, 12]"), "{e}");
    assert_eq!(
        ty(x, "", "%0 = Slice(x) {axes = [1], starts = [1], ends = [sequence], steps = [2]} return y = %0")
            .unwrap(),
        "f32[batch, sequence / 2, 12]"
    );
    assert_eq!(
        ty(x, "", "%0 = Range() {start = -sequence, limit = sequence} return y = %0").unwrap(),
        "i64[2 * sequence]"
    );
    let pool = "%0 = MaxPool(x) {kernel = [2], strides = [2], pads = [0, 0], dilations = [1]} return y = %0";
    assert_eq!(ty("x: f32[1, 1, n]", "", pool).unwrap(), "f32[1, 1, (n - 2) / 2 + 1]");
}

#[test]
fn attention_over_symbols() {
    let qkv = "q: f32[b, s, 8], k: f32[b, 2, p + s, 4], v: f32[b, 2, p + s, 4], m: f32[b, 1, s, p + s]";
    let op = "%0 = Attention(q, k, v, m) {q_heads = 2, kv_heads = 2, scale = 0.5} return y = %0";
    assert_eq!(ty(qkv, "", op).unwrap(), "f32[b, s, 8]");
    let e = ty("q: f32[b, s, 8], k: f32[b, s, 8], v: f32[b, t, 8]", "", &op.replace(", m", "")).unwrap_err();
    assert!(e.contains("operand 2 (`v`)") && e.contains("sequence s"), "{e}");
}

#[test]
fn refusals_name_operand_expected_and_got() {
    let e = ty("x: f32[a, 4]", "weight @w: f32[5, 3]", "%0 = MatMul(x, @w) return y = %0").unwrap_err();
    assert!(e.contains("MatMul: operand 1 (`b`): expected 4 rows") && e.contains("got f32[5, 3]"), "{e}");
    let e = ty("x: f32[a, 4], y: i64[a, 4]", "", "%0 = Add(x, y) return y = %0").unwrap_err();
    assert!(e.contains("operand 1 (`y`): expected elements of type f32, got i64[a, 4]"), "{e}");
    let e = ty("x: f32[a]", "", "%0 = Add(x) return y = %0").unwrap_err();
    assert!(e.contains("operand 1 (`y`) is missing"), "{e}");
}

#[test]
fn expressions_stay_small() {
    let (a, b) = (Dim::symbol("a"), Dim::symbol("b"));
    let mut product = Dim::constant(1);
    let mut refused = false;
    for i in 0..40 {
        let factor = a.add(&b).unwrap().add(&Dim::symbol(&format!("s{i}"))).unwrap();
        match product.mul(&factor) {
            Ok(p) => product = p,
            Err(_) => refused = true,
        }
    }
    assert!(refused);
    let mut nested = a.clone();
    let refused = (0..1000).any(|_| match nested.add_const(1).and_then(|d| d.floor_div(&Dim::constant(2))) {
        Ok(d) => {
            nested = d;
            false
        }
        Err(_) => true,
    });
    assert!(refused);
}
