//! Ops of images: resizing, sampling, regions, pools with positions, columns to images.

use crate::tools::{close, count, eval, i, random, refusal, t, try_eval};
use frit_ir::Dim;
use frit_ir::op::*;

fn dims(v: &[i64]) -> Vec<Dim> {
    v.iter().map(|&n| Dim::constant(n)).collect()
}

fn resize(sizes: &[i64], mode: ResizeMode, coordinates: Coordinates) -> Resize {
    Resize {
        sizes: dims(sizes),
        scales: vec![],
        mode,
        coordinates,
        nearest: NearestMode::RoundPreferFloor,
        cubic_coeff: -0.75,
        exclude_outside: false,
        antialias: false,
        roi: vec![],
        extrapolation: 0.0,
    }
}

#[test]
fn resizing_takes_the_nearest_element() {
    let x = count(&[1, 4]);
    let op = |nearest| Resize { nearest, ..resize(&[1, 8], ResizeMode::Nearest, Coordinates::Asymmetric) };
    assert_eq!(eval(op(NearestMode::Floor), &[&x]).to_f64_vec(), [0., 0., 1., 1., 2., 2., 3., 3.]);
    assert_eq!(eval(op(NearestMode::Ceil), &[&x]).to_f64_vec(), [0., 1., 1., 2., 2., 3., 3., 3.]);
    assert_eq!(eval(op(NearestMode::RoundPreferFloor), &[&x]).to_f64_vec(), [0., 0., 1., 1., 2., 2., 3., 3.]);
    assert_eq!(eval(op(NearestMode::RoundPreferCeil), &[&x]).to_f64_vec(), [0., 1., 1., 2., 2., 3., 3., 3.]);
}

#[test]
fn resizing_linearly_keeps_straight_lines() {
    // A plane stays a plane between the centres of the edge elements.
    let x = count(&[3, 4]);
    let y = eval(resize(&[5, 7], ResizeMode::Linear, Coordinates::AlignCorners), &[&x]).to_f64_vec();
    let want: Vec<f64> = (0..35).map(|n| (n / 7) as f64 * 2.0 + (n % 7) as f64 * 0.5).collect();
    assert!(y.iter().zip(&want).all(|(a, b)| (a - b).abs() < 1e-5), "{y:?}");
    let y = eval(resize(&[1, 8], ResizeMode::Linear, Coordinates::HalfPixel), &[&count(&[1, 4])]);
    assert_eq!(y.to_f64_vec(), [0., 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.]);
    // Half the extent, the kernel stretched: a triangle over four elements.
    let small = Resize { antialias: true, ..resize(&[1, 4], ResizeMode::Linear, Coordinates::HalfPixel) };
    let y = eval(small, &[&count(&[1, 8])]).to_f64_vec();
    close(&y[1..3], &[2.5, 4.5]);
}

#[test]
fn cubic_resizing_keeps_a_constant_and_its_edges() {
    let x = t(&[1, 5], &[2.0; 5]);
    for exclude_outside in [false, true] {
        let op = Resize { exclude_outside, ..resize(&[1, 9], ResizeMode::Cubic, Coordinates::HalfPixel) };
        let y = eval(op, &[&x]).to_f64_vec();
        assert!(y.iter().all(|v| (v - 2.0).abs() < 1e-6), "{y:?}");
    }
    assert!(refusal(resize(&[9], ResizeMode::Cubic, Coordinates::HalfPixel), &[&x]).contains("2 extents"));
}

#[test]
fn crops_fill_what_lies_outside() {
    let op = Resize {
        roi: vec![0.0, 0.5, 1.0, 1.5],
        extrapolation: 9.0,
        ..resize(&[1, 3], ResizeMode::Linear, Coordinates::CropAndResize)
    };
    assert_eq!(eval(op.clone(), &[&count(&[1, 3])]).to_f64_vec(), [1., 2., 9.]);
    let nearest = Resize { mode: ResizeMode::Nearest, ..op };
    assert_eq!(eval(nearest, &[&count(&[1, 3])]).to_f64_vec(), [1., 2., 9.]);
}

#[test]
fn a_grid_of_centres_gives_the_image_back() {
    let x = count(&[1, 1, 2, 3]);
    let grid: Vec<f64> =
        [-0.5, 0.5].iter().flat_map(|y| [-2.0 / 3.0, 0.0, 2.0 / 3.0].map(|x| [x, *y])).flatten().collect();
    let grid = t(&[1, 2, 3, 2], &grid);
    for mode in [SampleMode::Nearest, SampleMode::Linear, SampleMode::Cubic] {
        for padding in [SamplePadding::Zeros, SamplePadding::Border, SamplePadding::Reflection] {
            let y = eval(GridSample { mode, padding, align_corners: false }, &[&x, &grid]).to_f64_vec();
            assert!(
                y.iter().enumerate().all(|(n, v)| (v - n as f64).abs() < 1e-5),
                "{mode:?} {padding:?} {y:?}"
            );
        }
    }
    // One step beyond the right edge.
    let beyond = t(&[1, 1, 1, 2], &[4.0 / 3.0, -0.5]);
    for (padding, want) in
        [(SamplePadding::Zeros, 0.), (SamplePadding::Border, 2.), (SamplePadding::Reflection, 2.)]
    {
        let op = GridSample { mode: SampleMode::Nearest, padding, align_corners: false };
        assert_eq!(eval(op, &[&x, &beyond]).to_f64_vec(), [want], "{padding:?}");
    }
    let op = GridSample { mode: SampleMode::Linear, padding: SamplePadding::Zeros, align_corners: true };
    assert!(refusal(op, &[&x, &t(&[1, 1, 1, 3], &[0.; 3])]).contains("`grid`"));
}

#[test]
fn deformed_by_nothing_a_convolution_is_a_convolution() {
    let (x, w) = (random(&[2, 4, 5, 6], 1), random(&[6, 2, 3, 2], 2));
    let bias = random(&[6], 3);
    let op = DeformConv {
        strides: vec![2, 1],
        pads: vec![1, 0, 1, 1],
        dilations: vec![1, 2],
        group: 2,
        offset_group: 2,
    };
    let plain = Conv { strides: vec![2, 1], pads: vec![1, 0, 1, 1], dilations: vec![1, 2], group: 2 };
    let want = eval(plain, &[&x, &w, &bias]);
    let [_, _, h, w_out] = *want.shape() else { panic!() };
    let offset = random(&[2, 24, h, w_out], 4);
    let none = frit_ir::Tensor::zeros(frit_ir::DType::F64, offset.shape()).unwrap();
    let mask = frit_ir::Tensor::from_f64(frit_ir::DType::F64, &[2, 12, h, w_out], &vec![1.0; 24 * h * w_out])
        .unwrap();
    close(&eval(op.clone(), &[&x, &w, &none, &bias]).to_f64_vec(), &want.to_f64_vec());
    close(&eval(op.clone(), &[&x, &w, &none, &bias, &mask]).to_f64_vec(), &want.to_f64_vec());
    assert_ne!(eval(op.clone(), &[&x, &w, &offset, &bias]), want);
    assert!(refusal(op, &[&x, &w, &mask, &bias]).contains("`offset`"));
}

#[test]
fn offsets_of_whole_elements_shift_the_image() {
    let x = count(&[1, 1, 3, 3]);
    let w = t(&[1, 1, 1, 1], &[1.0]);
    let op = DeformConv {
        strides: vec![1, 1],
        pads: vec![0; 4],
        dilations: vec![1, 1],
        group: 1,
        offset_group: 1,
    };
    // One down, half to the right.
    let offset: Vec<f64> = [vec![1.0; 9], vec![0.5; 9]].concat();
    let y = eval(op, &[&x, &w, &t(&[1, 2, 3, 3], &offset)]).to_f64_vec();
    assert_eq!(y, [3.5, 4.5, 2.5, 6.5, 7.5, 4., 0., 0., 0.]);
}

#[test]
fn positions_of_the_largest_count_through_x() {
    let x = t(&[1, 2, 2, 3], &[1., 9., 3., 4., 5., 9., 0., 0., 0., 0., 0., 7.]);
    let op = |column_major| MaxPoolIndices {
        kernel: vec![2, 2],
        strides: vec![1, 1],
        pads: vec![0; 4],
        dilations: vec![1, 1],
        ceil_mode: false,
        column_major,
    };
    let y = try_eval(op(false), &[Some(&x)]).unwrap();
    assert_eq!(y[0].to_f64_vec(), [9., 9., 0., 7.]);
    assert_eq!(y[1].to_i64_vec(), [1, 1, 6, 11]);
    assert_eq!(try_eval(op(true), &[Some(&x)]).unwrap()[1].to_i64_vec(), [2, 2, 6, 11]);
    let bytes = frit_ir::Tensor::from_slice(&[1, 1, 1, 3], &[3u8, 200, 7]).unwrap();
    let max = MaxPool {
        kernel: vec![1, 2],
        strides: vec![1, 1],
        pads: vec![0; 4],
        dilations: vec![1, 1],
        ceil_mode: false,
    };
    assert_eq!(eval(max, &[&bytes]).to_i64_vec(), [200, 200]);
}

#[test]
fn pools_take_roots_of_powers() {
    let x = t(&[1, 1, 4], &[3., -4., 0., 2.]);
    let op = |p| LpPool {
        kernel: vec![2],
        strides: vec![2],
        pads: vec![0, 0],
        dilations: vec![1],
        ceil_mode: false,
        p,
    };
    assert_eq!(eval(op(2.0), &[&x]).to_f64_vec(), [5., 2.]);
    assert_eq!(eval(op(1.0), &[&x]).to_f64_vec(), [7., 2.]);
}

#[test]
fn columns_of_windows_sum_into_images() {
    // Unrolling ones by hand: each pixel counts the windows over it.
    let op = Col2Im {
        image: dims(&[3, 3]),
        block: vec![2, 2],
        strides: vec![1, 1],
        pads: vec![0; 4],
        dilations: vec![1, 1],
    };
    let y = eval(op.clone(), &[&t(&[1, 4, 4], &[1.0; 16])]);
    assert_eq!(y.to_f64_vec(), [1., 2., 1., 2., 4., 2., 1., 2., 1.]);
    // Without overlap every element has its place.
    let apart = Col2Im { image: dims(&[2, 4]), strides: vec![2, 2], ..op.clone() };
    let y = eval(apart, &[&count(&[1, 4, 2])]);
    assert_eq!(y.to_f64_vec(), [0., 2., 1., 3., 4., 6., 5., 7.]);
    assert!(refusal(op, &[&t(&[1, 4, 5], &[1.0; 20])]).contains("4 windows"));
}

#[test]
fn regions_are_cut_into_cells() {
    let x = count(&[1, 1, 4, 4]);
    let rois = t(&[1, 4], &[0., 0., 4., 4.]);
    let align = |mode| RoiAlign {
        height: 2,
        width: 2,
        sampling_ratio: 2,
        spatial_scale: 1.0,
        half_pixel: true,
        mode,
    };
    let y = eval(align(RoiMode::Avg), &[&x, &rois, &i(&[1], &[0])]);
    assert_eq!(y.to_f64_vec(), [2.5, 4.5, 10.5, 12.5]);
    assert_eq!(eval(align(RoiMode::Max), &[&x, &rois, &i(&[1], &[0])]).to_f64_vec(), [5., 7., 13., 15.]);
    assert!(refusal(align(RoiMode::Avg), &[&x, &rois, &i(&[1], &[1])]).contains("image"));
    let endless = RoiAlign { sampling_ratio: 0, ..align(RoiMode::Avg) };
    assert!(refusal(endless, &[&x, &t(&[1, 4], &[0., 0., 1e30, 4.]), &i(&[1], &[0])]).contains("samples"));
    let pool = MaxRoiPool { height: 2, width: 1, spatial_scale: 0.5 };
    let y = eval(pool, &[&x, &t(&[2, 5], &[0., 0., 0., 6., 6., 0., 2., 2., 2., 2.])]);
    assert_eq!(y.to_f64_vec(), [7., 15., 5., 5.]);
}

#[test]
fn determinants_of_batches() {
    let x = t(&[2, 3, 3], &[0., 2., 0., 1., 0., 0., 0., 0., 5., 1., 2., 3., 4., 5., 6., 7., 8., 9.]);
    let y = eval(Det {}, &[&x]).to_f64_vec();
    assert!((y[0] + 10.0).abs() < 1e-6 && y[1].abs() < 1e-5, "{y:?}");
}
