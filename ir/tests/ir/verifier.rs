//! The verifier accepts what the builder makes and names what is broken.

use frit_ir::op::{Softmax, Unary, UnaryFn};
use frit_ir::text::parse;
use frit_ir::verify::{VerifyError, verify};
use frit_ir::{DType, Dim, Module, NodeId, State, Tensor, TensorType, ValueId};

fn module() -> Module {
    parse(
        "module {
          weight @w: f32[4, 4]
          graph f(x: f32[n, 4], past: f32[p, 4]) {
            %2 = MatMul(x, @w)
            %3 = Softmax(%2)
            %4 = Concat(past, %3) {axis = 0}
            return y = %3, present = %4
            state past -> present {axis = 0}
          }
        }",
    )
    .unwrap()
}

fn errors(m: &Module) -> Vec<VerifyError> {
    verify(m).unwrap_err().0
}

#[test]
fn a_sound_module_passes() {
    verify(&module()).unwrap();
    verify(&parse(&module().to_string()).unwrap()).unwrap();
}

#[test]
fn broken_weights_and_names() {
    let mut m = module();
    let w = m.weights.find("w").unwrap();
    m.weights.set_data(w, Tensor::zeros(DType::F32, &[4, 3]).unwrap());
    assert!(errors(&m)[0].to_string().contains("weight `w` is declared f32[4, 4], its data are f32[4, 3]"));
    let mut m = module();
    m.graphs.push(m.graphs[0].clone());
    m.graphs[0].outputs[1].name = "y".into();
    let e: Vec<String> = errors(&m).iter().map(ToString::to_string).collect();
    assert!(e.iter().any(|e| e == "module: graph `f` occurs twice"), "{e:?}");
    assert!(e.iter().any(|e| e == "graph `f`: output `y` occurs twice"), "{e:?}");
    assert!(e.iter().any(|e| e.contains("there is no such output")), "{e:?}");
}

#[test]
fn dangling_uses() {
    let mut m = module();
    let softmax = m.graphs[0].nodes().find(|(_, n)| n.op.name() == "Softmax").unwrap().0;
    m.graphs[0].set_operand(softmax, 0, Some(ValueId(99)));
    assert!(errors(&m)[0].to_string().contains("refers to %99, which does not exist"));
    let mut m = module();
    m.graphs[0].remove_node(NodeId(0));
    assert!(errors(&m)[0].to_string().contains("comes from a node that was removed"));
}

#[test]
fn wrong_types_and_refused_operands() {
    let mut m = module();
    let x = m.graphs[0].inputs[0].value;
    let ty = TensorType::new(DType::F32, [Dim::symbol("n"), Dim::constant(5)]);
    let n = m.graphs[0].add_node(Softmax { axis: -1 }.into(), vec![Some(x)], vec![ty], "odd");
    let e = errors(&m);
    assert!(e[0].to_string().contains("Softmax at `odd`: expected f32[n, 4], got f32[n, 5]"), "{e:?}");
    m.graphs[0].set_operand(n, 0, None);
    assert!(matches!(&errors(&m)[0], VerifyError::Op { label, .. } if label == "odd"));
}

#[test]
fn cycles_and_unknown_symbols() {
    let mut m = module();
    let g = &mut m.graphs[0];
    let ty = TensorType::new(DType::F32, [Dim::symbol("n"), Dim::constant(4)]);
    let relu = || Unary { function: UnaryFn::Relu }.into();
    let x = g.inputs[0].value;
    let a = g.add_node(relu(), vec![Some(x)], vec![ty.clone()], "a");
    let va = g.node(a).unwrap().outputs[0];
    let b = g.add_node(relu(), vec![Some(va)], vec![ty], "b");
    let vb = g.node(b).unwrap().outputs[0];
    g.set_operand(a, 0, Some(vb));
    assert!(errors(&m).iter().any(|e| matches!(e, VerifyError::Cycle(_))));
    let e = parse("module { graph f(x: f32[n]) { %1 = ConstantOfShape() {shape = [m]} return y = %1 } }");
    let e = errors(&e.unwrap());
    assert!(e[0].to_string().contains("uses the dimension `m`, which no input has"), "{e:?}");
}

#[test]
fn states_must_be_appended_to() {
    let mut m = module();
    m.graphs[0].states = vec![State { input: "x".into(), output: "present".into(), axis: 0 }];
    assert!(errors(&m)[0].to_string().contains("must be Concat(x, ..) along axis 0"));
    m.graphs[0].states = vec![State { input: "past".into(), output: "present".into(), axis: 1 }];
    assert!(errors(&m)[0].to_string().contains("but for axis 1"));
}
