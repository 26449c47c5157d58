//! Elementwise ops one after another as one op, composite: what the pass `chains` makes and backends compute without
//! storing what lies between. What the ops compute is in their own files; which ones to join is the pass's business.

use super::*;
use crate::op_struct;
use crate::types::{broadcast, same_shape};

op_struct! {
    /// Elementwise ops one after another, under NumPy broadcasting; the last one's result. A step is a list: the op's
    /// name; its operands by number, first the chain's operands and then the results of the steps before; a list of
    /// name and value for each attribute that is not at its default. `[["Mul", 0, 1], ["Clip", 2, ["max", 6.0]]]` is
    /// the product of both operands, limited to 6.
    pub struct Chain = "Chain" {
        /// The ops in order.
        pub steps: Vec<ChainStep>,
    }
}

/// One op of a chain.
#[derive(Clone, Debug, PartialEq)]
pub struct ChainStep {
    /// What it computes.
    pub op: Op,
    /// What it computes that from: the chain's operands come first, then the results of the steps before.
    pub operands: Vec<usize>,
}

impl Op {
    /// True for ops that give for each element a function of the operands' elements there, and so can be a step of a
    /// chain.
    pub fn is_elementwise(&self) -> bool {
        matches!(
            self,
            Op::Unary(_)
                | Op::Binary(_)
                | Op::Where(_)
                | Op::Cast(_)
                | Op::Clip(_)
                | Op::LeakyRelu(_)
                | Op::Elu(_)
                | Op::HardSigmoid(_)
                | Op::Gelu(_)
                | Op::Swish(_)
                | Op::HardSwish(_)
        )
    }
}

impl Op {
    /// The names of the ops in it: those of a chain's steps, else its own.
    pub fn parts(&self) -> Vec<&'static str> {
        match self {
            Op::Chain(chain) => chain.steps.iter().map(|s| s.op.name()).collect(),
            other => vec![other.name()],
        }
    }
}

impl ChainStep {
    fn to_attr(&self) -> Attr {
        let mut list = vec![Attr::Str(self.op.name().to_owned())];
        list.extend(self.operands.iter().map(|&i| Attr::Int(i64::try_from(i).unwrap_or(i64::MAX))));
        let specs = Op::declaration(self.op.name()).map_or(&[][..], |d| &d.attrs);
        for (name, value) in self.op.attrs() {
            let default = specs.iter().find(|s| s.name == name).and_then(|s| s.default.as_ref());
            if default != Some(&value) && value != Attr::Absent {
                list.push(Attr::List(vec![Attr::Str(name.to_owned()), value]));
            }
        }
        Attr::List(list)
    }

    fn from_attr(attr: &Attr) -> Option<ChainStep> {
        let Attr::List(list) = attr else { return None };
        let Some((Attr::Str(name), rest)) = list.split_first() else { return None };
        let (mut operands, mut attrs) = (Vec::new(), Vec::new());
        for item in rest {
            match item {
                Attr::Int(i) if attrs.is_empty() => operands.push(usize::try_from(*i).ok()?),
                Attr::List(pair) => match pair.as_slice() {
                    [Attr::Str(name), value] => attrs.push((name.clone(), value.clone())),
                    _ => return None,
                },
                _ => return None,
            }
        }
        let op = Op::from_name(name, &attrs)?.ok().filter(Op::is_elementwise)?;
        Some(ChainStep { op, operands })
    }
}

impl AttrValue for Vec<ChainStep> {
    const KIND: &'static str = "list";
    fn to_attr(&self) -> Attr {
        Attr::List(self.iter().map(ChainStep::to_attr).collect())
    }
    fn from_attr(attr: &Attr) -> Option<Self> {
        match attr {
            Attr::List(v) => v.iter().map(ChainStep::from_attr).collect(),
            _ => None,
        }
    }
}

impl Chain {
    /// The types of all steps' results, from those of the operands.
    pub fn step_types(&self, operands: &[&TensorType]) -> Result<Vec<TensorType>, OpError> {
        let bad = |step: usize, why: String| OpError::Attr {
            op: Self::NAME,
            attr: "steps",
            why: format!("step {step}: {why}"),
        };
        let mut results: Vec<TensorType> = Vec::with_capacity(self.steps.len());
        for (n, step) in self.steps.iter().enumerate() {
            let of = |i: &usize| match i.checked_sub(operands.len()) {
                None => operands.get(*i).copied(),
                Some(i) => results.get(i),
            };
            let types: Vec<Option<&TensorType>> = step.operands.iter().map(of).collect();
            if types.contains(&None) {
                return Err(bad(
                    n,
                    "it reads what is neither an operand nor the result of a step before".into(),
                ));
            }
            let cx = Infer { op: step.op.name(), inputs: &types };
            results.extend(step.op.infer(&cx).map_err(|e| bad(n, e.to_string()))?);
        }
        Ok(results)
    }
}

impl OpDef for Chain {
    fn operands(&self) -> &'static [Operand] {
        const OPERANDS: &[Operand] = &[variadic("x")];
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::None
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let operands: Vec<&TensorType> = cx.present().map(|(_, t)| t).collect();
        let types = self.step_types(&operands)?;
        let Some(result) = types.last() else { return Err(cx.bad_attr("steps", "there is none")) };
        // What no step reads has no place in the result, and might be larger.
        let mut read = vec![false; operands.len() + types.len()];
        for i in self.steps.iter().flat_map(|s| &s.operands) {
            read.get_mut(*i).into_iter().for_each(|r| *r = true);
        }
        read.pop();
        if let Some(unread) = read.iter().position(|r| !r) {
            return Err(cx.bad_attr("steps", format!("no step reads number {unread}")));
        }
        let fits = |t: &TensorType| {
            broadcast(&t.shape, &result.shape).is_some_and(|s| same_shape(&s, &result.shape))
        };
        if !types.iter().all(fits) {
            return Err(cx.bad_attr("steps", "a step gives more elements than the last"));
        }
        Ok(vec![result.clone()])
    }
    fn is_composite(&self) -> bool {
        true
    }
    fn decompose(
        &self,
        b: &mut GraphBuilder<'_>,
        inputs: &[Option<ValueId>],
    ) -> Result<Vec<ValueId>, BuildError> {
        let mut values: Vec<ValueId> = inputs.iter().copied().flatten().collect();
        for step in &self.steps {
            let known: Vec<Option<ValueId>> = values.iter().copied().map(Some).collect();
            let operands =
                step.operands.iter().map(|&i| b.operand(&known, i)).collect::<Result<Vec<_>, _>>()?;
            values.push(b.op(step.op.clone(), &operands)?);
        }
        Ok(values.split_off(values.len().saturating_sub(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;
    use crate::interp;

    fn op(steps: &[(&str, &[usize])]) -> Chain {
        let step = |(name, operands): &(&str, &[usize])| ChainStep {
            op: Op::from_name(name, &[]).unwrap().unwrap(),
            operands: operands.to_vec(),
        };
        Chain { steps: steps.iter().map(step).collect() }
    }

    fn infer(chain: &Chain, shapes: &[&[usize]]) -> Result<TensorType, String> {
        let types: Vec<TensorType> =
            shapes.iter().map(|s| TensorType::new(DType::F32, s.iter().copied())).collect();
        let inputs: Vec<Option<&TensorType>> = types.iter().map(Some).collect();
        let all = Op::from(chain.clone()).infer(&Infer { op: "Chain", inputs: &inputs });
        all.map(|mut t| t.remove(0)).map_err(|e| e.to_string())
    }

    #[test]
    fn types_follow_the_steps() {
        let chain = op(&[("Add", &[0, 1]), ("Tanh", &[2]), ("Less", &[3, 0])]);
        assert_eq!(infer(&chain, &[&[3, 4], &[4]]).unwrap(), TensorType::new(DType::Bool, [3usize, 4]));
        let refused = |steps, shapes: &[&[usize]]| infer(&op(steps), shapes).unwrap_err();
        assert!(refused(&[], &[]).contains("there is none"));
        assert!(refused(&[("Tanh", &[1])], &[&[2]]).contains("step 0: it reads"));
        assert!(refused(&[("Tanh", &[0])], &[&[2], &[2]]).contains("number 1"));
        assert!(refused(&[("Tanh", &[0]), ("Neg", &[0])], &[&[2]]).contains("number 1"));
        assert!(refused(&[("Not", &[0])], &[&[2]]).contains("step 0: Not"));
        assert!(refused(&[("Add", &[0, 1])], &[&[2], &[3]]).contains("step 0: Add"));
    }

    #[test]
    fn attributes_read_back_and_foreign_ops_do_not() {
        let limit = Op::from(Clip { min: None, max: Some(6.0) });
        let gelu = Op::from(Gelu { approximate: GeluForm::Tanh });
        let cast = Op::from(Cast::to(DType::Bool));
        let steps = [limit, gelu, cast];
        let steps =
            steps.into_iter().enumerate().map(|(i, op)| ChainStep { op, operands: vec![i] }).collect();
        let chain = Chain { steps };
        let attrs: Vec<(String, Attr)> = chain.attrs().into_iter().map(|(n, a)| (n.to_owned(), a)).collect();
        assert_eq!(Chain::from_attrs(&attrs), Ok(chain));
        let foreign = |name: &str| {
            let step = Attr::List(vec![Attr::Str(name.to_owned()), Attr::Int(0)]);
            Chain::from_attrs(&[("steps".to_owned(), Attr::List(vec![step]))])
        };
        assert!(foreign("Neg").is_ok());
        assert!(["Softmax", "MatMul", "Chain", "Loop", "nothing"].iter().all(|n| foreign(n).is_err()));
    }

    #[test]
    fn it_evaluates_as_its_steps_do() {
        let chain = op(&[("Mul", &[0, 1]), ("Add", &[2, 0]), ("Relu", &[3])]);
        let x = Tensor::from_slice(&[2, 2], &[1f32, -2.0, 3.0, -4.0]).unwrap();
        let y = Tensor::from_slice(&[2], &[2f32, -3.0]).unwrap();
        let ty = TensorType::new(DType::F32, [2usize, 2]);
        let bindings = crate::Bindings::new();
        let out = interp::evaluate(&chain.into(), &[Some(&x), Some(&y)], &[&ty], &bindings, "").unwrap();
        assert_eq!(out[0].to_f64_vec(), [3.0, 4.0, 9.0, 8.0]);
    }
}
