//! Cases of ops that go by index tensors and of ops of images. What a case is and how it is judged is not here.

use super::*;

/// Ops that read, write and rank by index tensors.
pub(super) fn indexed(c: &mut Cases) -> Result<()> {
    use op::ScatterReduction as By;
    for dtype in [DType::F32, DType::I64, DType::F16, DType::U8] {
        for &reduction in By::ALL {
            for (shape, axis, n) in [(&[9, 5][..], 0, 9), (&[2, 7, 3], 1, 7), (&[2, 7, 3], -1, 3)] {
                let last = shape.len() - 1;
                let mut at = shape.to_vec();
                at[if axis < 0 { last } else { usize::try_from(axis).unwrap_or(0) }] = 4;
                let i = c.whole(DType::I64, &at, -n, n)?;
                c.add(
                    op::ScatterElements { axis, reduction },
                    vec![Of(dtype, shape), Given(i), Of(dtype, &at)],
                )?;
            }
            for (shape, at, updates) in [
                (&[4, 5, 6][..], &[3, 1][..], &[3, 5, 6][..]),
                (&[4, 4, 6], &[2, 3, 2], &[2, 3, 6]),
                (&[4, 4], &[7, 2], &[7]),
            ] {
                let i = c.whole(DType::I64, at, -4, 4)?;
                c.add(op::ScatterND { reduction }, vec![Of(dtype, shape), Given(i), Of(dtype, updates)])?;
            }
        }
        for (shape, at, batch_dims) in
            [(&[4, 5, 6][..], &[3, 1][..], 0), (&[3, 4, 5], &[3, 2, 1], 1), (&[2, 4, 4], &[2, 5, 2], 1)]
        {
            let i = c.whole(DType::I64, at, -4, 4)?;
            c.add(op::GatherND { batch_dims }, vec![Of(dtype, shape), Given(i)])?;
        }
        for largest in [false, true] {
            for (shape, axis, k) in
                [(&[50][..], 0, 7), (&[3, 20, 4], 1, 5), (&[3, 20, 4], -1, 4), (&[5, 3], 0, 0)]
            {
                let x = c.whole(dtype, shape, 0, 9)?;
                c.add(op::TopK { k: Dim::constant(k), axis, largest }, vec![Given(x)])?;
            }
        }
        let lens = c.whole(DType::I64, &[4], 0, 6)?;
        let op = op::ReverseSequence { batch_axis: 1, time_axis: 0 };
        c.add(op, vec![Of(dtype, &[5, 4, 3]), Given(lens)])?;
        for upper in [false, true] {
            let k = Tensor::from_slice(&[], &[-1i64])?;
            c.add(op::Trilu { upper }, vec![Of(dtype, &[2, 4, 5]), Given(k)])?;
            c.add(op::Trilu { upper }, vec![Of(dtype, &[5, 4])])?;
        }
    }
    for &distribution in op::Distribution::ALL {
        let shape = dims(&[3, 40]);
        let op = op::Random { shape, dtype: DType::F32, distribution, a: -1.0, b: 2.0, seed: 7, salt: 3 };
        c.add(op, vec![])?;
    }
    Ok(())
}

/// Ops of images.
pub(super) fn images(c: &mut Cases) -> Result<()> {
    let f = DType::F32;
    let plain = op::Resize {
        sizes: vec![],
        scales: vec![],
        mode: op::ResizeMode::Nearest,
        coordinates: op::Coordinates::HalfPixel,
        nearest: op::NearestMode::RoundPreferFloor,
        cubic_coeff: -0.75,
        exclude_outside: false,
        antialias: false,
        roi: vec![0.0, 0.0, 0.2, 0.3, 1.0, 1.0, 0.9, 1.1],
        extrapolation: 5.0,
    };
    for (x, y) in
        [([1, 2, 5, 7], [1i64, 2, 10, 14]), ([2, 3, 9, 8], [2, 3, 4, 5]), ([1, 1, 3, 4], [1, 1, 7, 2])]
    {
        for &coordinates in op::Coordinates::ALL {
            for &mode in op::ResizeMode::ALL {
                let op = op::Resize { sizes: dims(&y), mode, coordinates, ..plain.clone() };
                c.add(op.clone(), vec![Of(f, &x)])?;
                if mode != op::ResizeMode::Nearest {
                    let exclude_outside = mode == op::ResizeMode::Cubic;
                    c.add(op::Resize { antialias: true, exclude_outside, ..op }, vec![Of(f, &x)])?;
                }
            }
        }
        for &nearest in op::NearestMode::ALL {
            let scales = x.iter().zip(&y).map(|(&a, &b)| (b as f64 + 0.4) / a as f64).collect();
            let op = op::Resize { sizes: dims(&y), scales, nearest, ..plain.clone() };
            c.add(op, vec![Of(DType::U8, &x)])?;
        }
    }
    for (x, w, group, padding) in [
        (&[2, 4, 9][..], &[4, 3, 4][..], 1, &[1i64][..]),
        (&[1, 6, 5, 4], &[6, 2, 3, 2], 3, &[0, 1]),
        (&[1, 2, 3, 2, 3], &[2, 2, 2, 3, 1], 2, &[0, 1, 0]),
    ] {
        let axes = padding.len();
        let op = op::ConvTranspose {
            strides: vec![2; axes],
            pads: [vec![1; axes], vec![0; axes]].concat(),
            dilations: (0i64..).take(axes).map(|i| 2 - i % 2).collect(),
            group,
            output_padding: padding.to_vec(),
        };
        let channels = w[1] * usize::try_from(group).unwrap_or(1);
        c.add(op.clone(), vec![Of(f, x), Weight(f, w), Weight(f, &[channels])])?;
        c.add(op, vec![Of(f, x), Of(f, w)])?;
    }
    for &mode in op::SampleMode::ALL {
        for &padding in op::SamplePadding::ALL {
            for align_corners in [false, true] {
                let op = op::GridSample { mode, padding, align_corners };
                let grid = c.within(f, &[2, 4, 3, 2], -1.6, 1.6)?;
                c.add(op.clone(), vec![Of(f, &[2, 3, 5, 6]), Given(grid)])?;
                let grid = c.within(f, &[1, 2, 3, 2, 3], -1.6, 1.6)?;
                c.add(op, vec![Of(f, &[1, 2, 3, 4, 5]), Given(grid)])?;
            }
        }
    }
    let deformed = op::DeformConv {
        strides: vec![2, 1],
        pads: vec![1, 0, 1, 1],
        dilations: vec![1, 2],
        group: 2,
        offset_group: 2,
    };
    let (x, w, offset) = ([2, 4, 5, 6], [6, 2, 3, 2], [2, 24, 3, 5]);
    c.add(deformed.clone(), vec![Of(f, &x), Weight(f, &w), Of(f, &offset)])?;
    let operands = vec![Of(f, &x), Weight(f, &w), Of(f, &offset), Weight(f, &[6]), Of(f, &[2, 12, 3, 5])];
    c.add(deformed, operands)?;
    for &mode in op::RoiMode::ALL {
        for half_pixel in [false, true] {
            let rois = Tensor::from_slice(&[2, 4], &[0.3f32, 0.9, 4.1, 7.7, 2.0, 2.0, 12.0, 3.0])?;
            let batch = Tensor::from_slice(&[2], &[1i64, 0])?;
            for sampling_ratio in [0, 2] {
                let op = op::RoiAlign {
                    height: 3,
                    width: 2,
                    sampling_ratio,
                    spatial_scale: 0.7,
                    half_pixel,
                    mode,
                };
                c.add(op, vec![Of(f, &[2, 3, 6, 8]), Given(rois.clone()), Given(batch.clone())])?;
            }
        }
    }
    let rois = Tensor::from_slice(&[2, 5], &[0.0f32, 0.3, 0.9, 4.1, 7.7, 1.0, 2.0, 2.0, 12.0, 3.0])?;
    let op = op::MaxRoiPool { height: 3, width: 2, spatial_scale: 0.7 };
    c.add(op, vec![Of(f, &[2, 3, 6, 8]), Given(rois)])?;
    let op = op::Col2Im {
        image: dims(&[5, 6]),
        block: vec![2, 3],
        strides: vec![1, 2],
        pads: vec![0, 1, 1, 0],
        dilations: vec![2, 1],
    };
    c.add(op, vec![Of(f, &[2, 18, 12])])?;
    c.add(op::Det {}, vec![Of(f, &[2, 3, 4, 4])])?;
    for ceil_mode in [false, true] {
        let (kernel, strides, pads, dilations) = (vec![3, 2], vec![2, 2], vec![1, 0, 1, 1], vec![1, 2]);
        for column_major in [false, true] {
            let (kernel, strides, pads, dilations) =
                (kernel.clone(), strides.clone(), pads.clone(), dilations.clone());
            let op = op::MaxPoolIndices { kernel, strides, pads, dilations, ceil_mode, column_major };
            c.add(op, vec![Of(f, &[2, 3, 9, 10])])?;
        }
        let (k, s, p, d) = (kernel.clone(), strides.clone(), pads.clone(), dilations.clone());
        let op = op::MaxPool { kernel: k, strides: s, pads: p, dilations: d, ceil_mode };
        c.add(op, vec![Of(DType::U8, &[2, 3, 9, 10])])?;
        for p in [1.0, 2.0, 3.0] {
            let (kernel, strides, pads, dilations) =
                (kernel.clone(), strides.clone(), pads.clone(), dilations.clone());
            let op = op::LpPool { kernel, strides, pads, dilations, ceil_mode, p };
            c.add(op, vec![Of(f, &[2, 3, 9, 10])])?;
        }
    }
    Ok(())
}
