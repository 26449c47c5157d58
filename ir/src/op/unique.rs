//! Picking as many as there turn out to be: different elements, boxes that do not overlap. Each defines a dimension
//! symbol; what else does is in `dynamic.rs`.

use super::elements::{at, strides};
use super::scatter::may_equal;
use super::topk::order;
use super::*;
use crate::dim::Dim;
use crate::dtype::DType;
use crate::op_struct;
use std::cmp::Ordering;

op_struct! {
    /// The different elements of x, or the different slices along an axis; for each where it comes first and how
    /// often it comes, and for each of x which of the different ones it is. Results: values, first places, numbers of
    /// values, counts. ONNX Unique-11.
    pub struct Unique = "Unique" {
        /// The symbol that takes the number of different elements.
        pub count: String,
        /// The axis of slices; none: single elements.
        pub axis: Option<i64> = None,
        /// In rising order, not in order of appearance.
        pub sorted: bool = true,
    }
}

impl OpDef for Unique {
    fn operands(&self) -> &'static [Operand] {
        const X: &[Operand] = &[one("x")];
        X
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("Unique", 11)
    }
    fn defines(&self) -> Vec<&str> {
        vec![&self.count]
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let x = cx.ty(0)?;
        let count = Dim::symbol(&self.count);
        let (shape, all) = match self.axis {
            None => (vec![count.clone()], x.elements()?),
            Some(axis) => {
                let axis = cx.axis("axis", axis, x.rank())?;
                let mut shape = x.shape.clone();
                let all = shape.get_mut(axis).map(|d| std::mem::replace(d, count.clone()));
                (shape, all.unwrap_or_default())
            }
        };
        let numbers = |d: &Dim| TensorType { dtype: DType::I64, shape: vec![d.clone()] };
        Ok(vec![TensorType { dtype: x.dtype, shape }, numbers(&count), numbers(&all), numbers(&count)])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = cx.input(0)?;
        // Without an axis, slices of one element along the only axis.
        let (x, axis) = match self.axis {
            None => (x.reshaped(&[x.len()])?, 0),
            Some(axis) => (x.clone(), cx.axis(axis, x.shape().len())?),
        };
        let extent = at(x.shape(), axis);
        let inner: usize = x.shape().iter().skip(axis + 1).product();
        let outer: usize = x.shape().iter().take(axis).product();
        let compare = order(&x);
        let slices = |a: usize, b: usize| {
            (0..outer)
                .flat_map(|o| (0..inner).map(move |i| (o, i)))
                .map(|(o, i)| compare((o * extent + a) * inner + i, (o * extent + b) * inner + i))
                .find(|c| *c != Ordering::Equal)
                .unwrap_or(Ordering::Equal)
        };
        let mut ranked: Vec<usize> = (0..extent).collect();
        ranked.sort_by(|&a, &b| slices(a, b).then(a.cmp(&b)));
        // Runs of equals: the first of each, and all that belong to it.
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for n in ranked {
            match groups.last_mut() {
                Some(g) if g.first().is_some_and(|&f| slices(f, n) == Ordering::Equal) => g.push(n),
                _ => groups.push(vec![n]),
            }
        }
        if !self.sorted {
            groups.sort_by_key(|g| g.first().copied());
        }
        let whole = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let first: Vec<usize> = groups.iter().filter_map(|g| g.first().copied()).collect();
        let mut inverse = vec![0i64; extent];
        for (n, group) in groups.iter().enumerate() {
            for &member in group {
                if let Some(slot) = inverse.get_mut(member) {
                    *slot = whole(n);
                }
            }
        }
        let size = inner * x.dtype().size();
        let mut values = Vec::new();
        for o in 0..outer {
            for f in &first {
                let start = (o * extent + f) * size;
                values.extend_from_slice(x.bytes().get(start..start + size).unwrap_or(&[]));
            }
        }
        let mut shape = x.shape().to_vec();
        if let Some(d) = shape.get_mut(axis) {
            *d = first.len();
        }
        let numbers = |v: Vec<i64>| Tensor::from_slice(&[v.len()], &v);
        Ok(vec![
            Tensor::from_bytes(x.dtype(), &shape, &values)?,
            numbers(first.iter().map(|&f| whole(f)).collect())?,
            numbers(inverse)?,
            numbers(groups.iter().map(|g| whole(g.len())).collect())?,
        ])
    }
}

op_struct! {
    /// Of boxes `[N, K, 4]` those with the best scores `[N, classes, K]` that overlap no better one by more than a
    /// share of their union: rows of image, class and box, `[count, 3]`, i64. Without a limit nothing is picked.
    /// ONNX NonMaxSuppression-11.
    pub struct NonMaxSuppression = "NonMaxSuppression" {
        /// The symbol that takes the number of picked boxes.
        pub count: String,
        /// Boxes are x and y of their centre, width and height; else y and x of two corners.
        pub center_point_box: bool = false,
    }
}

impl OpDef for NonMaxSuppression {
    fn operands(&self) -> &'static [Operand] {
        const OPERANDS: &[Operand] = &[
            one("boxes"),
            one("scores"),
            optional("max_output_boxes_per_class"),
            optional("iou_threshold"),
            optional("score_threshold"),
        ];
        OPERANDS
    }
    fn onnx(&self) -> Onnx {
        Onnx::Op("NonMaxSuppression", 11)
    }
    fn defines(&self) -> Vec<&str> {
        vec![&self.count]
    }
    fn infer(&self, cx: &Infer<'_>) -> Result<Vec<TensorType>, OpError> {
        let (boxes, scores) = (cx.expect_float(0)?, cx.expect_float(1)?);
        match (boxes.shape.as_slice(), scores.shape.as_slice()) {
            ([n, k, four], [m, _, l]) if four.is(4) && may_equal(n, m) && may_equal(k, l) => {}
            _ => return Err(cx.reject(1, format!("[N, classes, K] for boxes [N, K, 4], which are {boxes}"))),
        }
        for i in 2..5 {
            let fits = |t: &TensorType| (i == 2) == t.dtype.is_int() && t.rank() <= 1;
            if cx.opt(i).is_some_and(|t| !fits(t)) {
                return Err(cx.reject(i, "one number"));
            }
        }
        Ok(vec![TensorType { dtype: DType::I64, shape: vec![Dim::symbol(&self.count), Dim::constant(3)] }])
    }
    fn eval(&self, cx: &Eval<'_>) -> Result<Vec<Tensor>, OpError> {
        let (boxes, scores) = (cx.input(0)?, cx.input(1)?);
        let &[images, classes, count] = scores.shape() else {
            return Err(cx.bad_data(format!("scores of shape {:?}", scores.shape())));
        };
        if boxes.shape() != [images, count, 4] {
            return Err(cx.bad_data(format!("boxes {:?} for scores {:?}", boxes.shape(), scores.shape())));
        }
        let number = |i: usize| cx.opt(i).and_then(|t| t.to_f32_vec().first().copied());
        let most = cx.opt(2).and_then(|t| t.to_i64_vec().first().copied()).unwrap_or(0);
        let most = usize::try_from(most.max(0)).unwrap_or(usize::MAX);
        let (overlap, least) = (number(3).unwrap_or(0.0), number(4));
        let (corners, scores) = (self.corners(&boxes.to_f32_vec()), scores.to_f32_vec());
        let steps = strides(&[images, classes, count]);
        let mut rows: Vec<i64> = Vec::new();
        for image in 0..images {
            for class in 0..classes {
                let score = |k: usize| at(&scores, image * at(&steps, 0) + class * at(&steps, 1) + k);
                let place = |k: usize| at(&corners, image * count + k);
                let mut ranked: Vec<usize> =
                    (0..count).filter(|&k| least.is_none_or(|l| score(k) > l)).collect();
                ranked.sort_by(|&a, &b| score(b).total_cmp(&score(a)).then(a.cmp(&b)));
                let mut picked: Vec<usize> = Vec::new();
                for k in ranked {
                    if picked.len() >= most {
                        break;
                    }
                    if picked.iter().all(|&p| shared(place(p), place(k)) <= overlap) {
                        picked.push(k);
                    }
                }
                rows.extend(
                    picked
                        .iter()
                        .flat_map(|&k| [image, class, k])
                        .map(|n| i64::try_from(n).unwrap_or(i64::MAX)),
                );
            }
        }
        Ok(vec![Tensor::from_slice(&[rows.len() / 3, 3], &rows)?])
    }
}

impl NonMaxSuppression {
    /// Least and greatest coordinates of each box. Single precision, as other engines have it: a box may overlap by
    /// just the threshold.
    fn corners(&self, boxes: &[f32]) -> Vec<[f32; 4]> {
        boxes
            .chunks_exact(4)
            .map(|b| {
                let (p, q, r, s) = (at(b, 0), at(b, 1), at(b, 2), at(b, 3));
                if self.center_point_box {
                    [p - r / 2.0, q - s / 2.0, p + r / 2.0, q + s / 2.0]
                } else {
                    [p.min(r), q.min(s), p.max(r), q.max(s)]
                }
            })
            .collect()
    }
}

/// The intersection of two boxes as a share of their union; 0 where one of them is empty.
fn shared(a: [f32; 4], b: [f32; 4]) -> f32 {
    let area = |[x, y, u, v]: [f32; 4]| (u - x) * (v - y);
    let [x, y, u, v] = [a[0].max(b[0]), a[1].max(b[1]), a[2].min(b[2]), a[3].min(b[3])];
    if u <= x || v <= y || area(a) <= 0.0 || area(b) <= 0.0 {
        return 0.0;
    }
    let both = (u - x) * (v - y);
    both / (area(a) + area(b) - both)
}
