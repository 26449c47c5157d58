//! Convolutions against plain f64 loops: every way, every instruction set, random shapes and epilogues; and
//! equal bits on one thread and on several.

use super::*;
use crate::gemm::Activation;

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
    fn values(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.below(20_001) as f32 / 10_000.0 - 1.0).collect()
    }
}

/// The sum at one output element, and the sum of its terms' sizes.
fn naive(spec: &ConvSpec, x: &[f32], w: &[f32], image: usize, channel: usize, out: [usize; 3]) -> (f64, f64) {
    let group = channel / spec.group_out;
    let (mut sum, mut size) = (0.0, 0.0);
    for c in 0..spec.group_in {
        for z in 0..spec.kernel[0] {
            for y in 0..spec.kernel[1] {
                for v in 0..spec.kernel[2] {
                    let tap = [z, y, v];
                    let mut at = [0; 3];
                    let inside = (0..3).all(|axis| {
                        let position = out[axis] * spec.stride[axis] + tap[axis] * spec.dilation[axis];
                        at[axis] = position.wrapping_sub(spec.pad[axis]);
                        position >= spec.pad[axis] && at[axis] < spec.input[axis]
                    });
                    if inside {
                        let input_channel = (image * spec.groups + group) * spec.group_in + c;
                        let pixel = (at[0] * spec.input[1] + at[1]) * spec.input[2] + at[2];
                        let weight = (channel * spec.group_in + c) * spec.taps();
                        let tap = (z * spec.kernel[1] + y) * spec.kernel[2] + v;
                        let term = f64::from(x[input_channel * spec.pixels_in() + pixel])
                            * f64::from(w[weight + tap]);
                        sum += term;
                        size += term.abs();
                    }
                }
            }
        }
    }
    (sum, size)
}

fn run(
    isa: Isa,
    form: WeightForm,
    spec: &ConvSpec,
    x: &[f32],
    w: &[f32],
    y: &mut [f32],
    epilogue: &Epilogue<'_>,
) {
    let mut packed = vec![f32::NAN; form.bytes() / 4];
    pack_weight(&form, w, bytemuck::cast_slice_mut(&mut packed)).unwrap();
    assert_eq!(WeightForm::parse(&form.tag(), spec).unwrap(), form);
    let weight = ConvWeight::new(form, bytemuck::cast_slice(&packed)).unwrap();
    conv(isa, spec, x, &weight, y, epilogue).unwrap();
}

fn check(random: &mut Random, sizes: &ConvSizes<'_>) {
    let spec = ConvSpec::new(sizes).unwrap();
    let (x, w) = (random.values(spec.input_len()), random.values(spec.weight_len()));
    let bias = random.values(spec.out_channels());
    let (residual, before) = (random.values(spec.output_len()), random.values(spec.output_len()));
    let pick = |which: usize| match which {
        0 => Some(Residual::From { data: &residual, stride: spec.pixels_out() }),
        1 => Some(Residual::Output),
        _ => None,
    };
    let epilogue = Epilogue {
        bias: if random.below(2) == 0 { Bias::Rows(&bias) } else { Bias::None },
        activation: if random.below(2) == 0 { Activation::Relu } else { Activation::None },
        residual_before: pick(random.below(4)),
        residual_after: pick(random.below(4)),
        ..Epilogue::default()
    };
    let [od, oh, ow] = spec.output;
    let wanted = |x: &[f32], w: &[f32]| -> Vec<(f64, f64)> {
        let one = |index: usize| {
            let (plane, pixel) = (index / spec.pixels_out(), index % spec.pixels_out());
            let (image, channel) = (plane / spec.out_channels(), plane % spec.out_channels());
            let out = [pixel / (oh * ow), pixel / ow % oh, pixel % ow];
            assert!(out[0] < od);
            let (sum, size) = naive(&spec, x, w, image, channel, out);
            let residual = |which: Option<Residual<'_>>| match which {
                Some(Residual::From { data, .. }) => f64::from(data[index]),
                Some(Residual::Output) => f64::from(before[index]),
                None => 0.0,
            };
            let bias = if let Bias::Rows(bias) = epilogue.bias { f64::from(bias[channel]) } else { 0.0 };
            let value = sum + bias + residual(epilogue.residual_before);
            let value = if epilogue.activation == Activation::Relu { value.max(0.0) } else { value };
            let k = spec.sum_len().max(1) as f64;
            let tolerance = 4e-7 * (k.sqrt() + 4.0) * (size / k.sqrt()).max(1.0);
            (value + residual(epilogue.residual_after), tolerance)
        };
        (0..spec.output_len()).map(one).collect()
    };
    let rounded =
        |values: &[f32]| values.iter().map(|&x| half::bf16::from_f32(x).to_f32()).collect::<Vec<_>>();
    let (exact, weights, both) =
        (wanted(&x, &w), wanted(&x, &rounded(&w)), wanted(&rounded(&x), &rounded(&w)));
    for (isa, dtype) in Isa::available().into_iter().flat_map(|isa| [(isa, DType::F32), (isa, DType::BF16)]) {
        // Weights stored for any level, and in either form, serve every instruction set.
        let forms = |level| {
            let (usual, suited) =
                (WeightForm::new(level, dtype, &spec), WeightForm::with_extents(level, dtype, &spec));
            [Some(usual), (suited != usual).then_some(suited)].into_iter().flatten()
        };
        for (level, form) in
            Level::ALL.into_iter().flat_map(|level| forms(level).map(move |form| (level, form)))
        {
            let mut y = before.clone();
            run(isa, form, &spec, &x, &w, &mut y, &epilogue);
            // Panels of eight columns are not multiplied in pairs.
            let columns = form.layout.filter(|layout| layout.side == Side::Columns);
            let in_pairs = isa.has_bf16_dot() && columns.is_none_or(|layout| layout.width > 8);
            let wanted = match dtype {
                DType::BF16 if spec.is_depthwise() => &exact,
                DType::BF16 if in_pairs => &both,
                DType::BF16 => &weights,
                _ => &exact,
            };
            for (index, (&found, &(want, tolerance))) in y.iter().zip(wanted).enumerate() {
                assert!(
                    (f64::from(found) - want).abs() <= tolerance,
                    "{sizes:?} {isa:?} {level:?} {dtype:?} {epilogue:?}: element {index} is {found}, expected {want} +- {tolerance}"
                );
            }
        }
    }
}

/// One axis: channels, groups, extent, kernel, stride, dilation, pads.
fn one_axis(
    random: &mut Random,
    io: [usize; 3],
    input: usize,
    kernel: usize,
    step: [usize; 2],
    pads: [usize; 2],
) {
    check(
        random,
        &ConvSizes {
            batch: 2,
            in_channels: io[0],
            out_channels: io[1],
            groups: io[2],
            input: &[input],
            kernel: &[kernel],
            strides: &[step[0]],
            dilations: &[step[1]],
            pads_begin: &[pads[0]],
            pads_end: &[pads[1]],
        },
    );
}

#[test]
fn the_convolutions_of_wav2vec2() {
    let mut random = Random(1);
    one_axis(&mut random, [1, 24, 1], 403, 10, [5, 1], [0, 0]);
    one_axis(&mut random, [24, 40, 1], 207, 3, [2, 1], [0, 0]);
    one_axis(&mut random, [24, 20, 1], 100, 2, [2, 1], [0, 0]);
    one_axis(&mut random, [192, 193, 1], 150, 3, [2, 1], [0, 0]);
    one_axis(&mut random, [193, 192, 1], 66, 3, [2, 1], [1, 1]);
    one_axis(&mut random, [384, 390, 2], 35, 3, [2, 1], [5, 0]);
    one_axis(&mut random, [200, 195, 1], 4, 3, [2, 1], [0, 2]);
    one_axis(&mut random, [192, 192, 1], 3, 3, [2, 1], [0, 0]);
    one_axis(&mut random, [24, 24, 4], 70, 128, [1, 1], [64, 64]);
    one_axis(&mut random, [24, 24, 4], 9, 19, [1, 1], [9, 9]);
    one_axis(&mut random, [6, 10, 2], 45, 16, [1, 2], [7, 30]);
}

#[test]
fn patches_points_and_squares() {
    let mut random = Random(2);
    let square =
        |random: &mut Random, io: [usize; 3], input: [usize; 2], kernel: usize, stride: usize, pad: usize| {
            check(
                random,
                &ConvSizes {
                    batch: 2,
                    in_channels: io[0],
                    out_channels: io[1],
                    groups: io[2],
                    input: &input,
                    kernel: &[kernel, kernel],
                    strides: &[stride, stride],
                    dilations: &[1, 1],
                    pads_begin: &[pad, pad],
                    pads_end: &[pad, pad],
                },
            );
        };
    square(&mut random, [3, 33, 1], [32, 24], 8, 8, 0);
    square(&mut random, [20, 17, 1], [5, 9], 1, 1, 0);
    // Pixels as rows: partial sums over two K blocks, several row tiles, and channels that fill no panel.
    square(&mut random, [1100, 40, 1], [3, 7], 1, 1, 0);
    square(&mut random, [33, 70, 1], [9, 9], 1, 1, 0);
    square(&mut random, [7, 3, 1], [1, 2], 1, 1, 0);
    square(&mut random, [8, 15, 1], [13, 11], 3, 1, 1);
    square(&mut random, [3, 9, 1], [15, 20], 3, 2, 1);
    square(&mut random, [12, 6, 3], [10, 7], 3, 1, 1);
    for stride in [1, 2, 3] {
        for kernel in [1, 3, 5] {
            square(&mut random, [5, 5, 5], [17, 21], kernel, stride, kernel / 2);
        }
    }
    square(&mut random, [4, 8, 4], [9, 9], 3, 1, 1);
}

#[test]
fn random_shapes_of_any_rank() {
    let mut random = Random(3);
    let mut done = 0;
    while done < 60 {
        let rank = 1 + random.below(3);
        let mut pick = |least: usize, range: usize| -> Vec<usize> {
            (0..rank).map(|_| least + random.below(range)).collect()
        };
        let (input, kernel, strides, dilations) = (pick(1, 12), pick(1, 4), pick(1, 3), pick(1, 3));
        let (pads_begin, pads_end) = (pick(0, 3), pick(0, 3));
        let groups = [1, 1, 2, 3][random.below(4)];
        let depthwise = random.below(4) == 0;
        let (group_in, group_out) =
            if depthwise { (1, 1) } else { (1 + random.below(5), 1 + random.below(20)) };
        let batch = 1 + random.below(2);
        check(
            &mut random,
            &ConvSizes {
                batch,
                in_channels: groups * group_in,
                out_channels: groups * group_out,
                groups,
                input: &input,
                kernel: &kernel,
                strides: &strides,
                dilations: &dilations,
                pads_begin: &pads_begin,
                pads_end: &pads_end,
            },
        );
        done += 1;
    }
}

#[test]
fn threads_do_not_change_the_bits() {
    let mut random = Random(4);
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let (one, two) = (pool(1), pool(2));
    for (io, kernel, stride, pad) in [
        ([192, 200, 1], 3, 2, 0),
        ([64, 64, 4], 64, 1, 32),
        ([512, 512, 512], 5, 1, 2),
        ([1, 64, 1], 10, 5, 0),
        ([160, 330, 1], 1, 1, 0),
    ] {
        let input = if kernel == 1 { 300 } else { 900 };
        let sizes = ConvSizes {
            batch: 1,
            in_channels: io[0],
            out_channels: io[1],
            groups: io[2],
            input: &[input],
            kernel: &[kernel],
            strides: &[stride],
            dilations: &[1],
            pads_begin: &[pad],
            pads_end: &[pad],
        };
        let spec = ConvSpec::new(&sizes).unwrap();
        let (x, w) = (random.values(spec.input_len()), random.values(spec.weight_len()));
        let epilogue = Epilogue { activation: Activation::GeluErf, ..Epilogue::default() };
        for (isa, dtype) in
            Isa::available().into_iter().flat_map(|isa| [(isa, DType::F32), (isa, DType::BF16)])
        {
            let bits = |pool: &rayon::ThreadPool| {
                let mut y = vec![0.0; spec.output_len()];
                pool.install(|| {
                    let form = WeightForm::with_extents(isa.level(), dtype, &spec);
                    run(isa, form, &spec, &x, &w, &mut y, &epilogue)
                });
                y.iter().map(|y| y.to_bits()).collect::<Vec<_>>()
            };
            assert!(bits(&one) == bits(&two), "{sizes:?} {isa:?}");
        }
    }
}

#[test]
fn misfits_are_refused() {
    let sizes = ConvSizes {
        batch: 1,
        in_channels: 4,
        out_channels: 6,
        groups: 2,
        input: &[10],
        kernel: &[3],
        strides: &[1],
        dilations: &[1],
        pads_begin: &[0],
        pads_end: &[0],
    };
    let bad = |change: &dyn Fn(&mut ConvSizes<'static>)| {
        let mut sizes = ConvSizes { ..sizes };
        change(&mut sizes);
        ConvSpec::new(&sizes).unwrap_err()
    };
    assert!(matches!(bad(&|s| s.groups = 3), ConvError::Groups { .. }));
    assert!(matches!(bad(&|s| s.groups = 0), ConvError::Groups { .. }));
    assert!(matches!(bad(&|s| s.strides = &[0]), ConvError::Zero { axis: 0 }));
    assert!(matches!(bad(&|s| s.kernel = &[3, 3]), ConvError::Rank { what: "kernel", .. }));
    assert!(matches!(bad(&|s| s.pads_end = &[usize::MAX]), ConvError::Overflow));
    assert!(matches!(bad(&|s| s.batch = usize::MAX / 8), ConvError::Overflow));
    // A kernel wider than the input gives no output rather than an error, as ONNX Runtime's shapes do.
    let wide = ConvSpec::new(&ConvSizes { kernel: &[11], ..sizes }).unwrap();
    assert_eq!(wide.output_len(), 0);

    let spec = ConvSpec::new(&sizes).unwrap();
    assert_eq!(spec.output(), [1, 1, 8]);
    let isa = Isa::best();
    let form = WeightForm::new(isa.level(), DType::F32, &spec);
    let data = [1.0f32; 36];
    let weight = ConvWeight::new(form, bytemuck::cast_slice(&data)).unwrap();
    let (x, mut y) = ([1.0; 40], [0.0; 48]);
    let plain = Epilogue::default();
    assert!(matches!(
        conv(isa, &spec, &x[1..], &weight, &mut y, &plain),
        Err(ConvError::Length { what: "input", .. })
    ));
    assert!(matches!(conv(isa, &spec, &x, &weight, &mut y[1..], &plain), Err(ConvError::Length { .. })));
    let other = ConvSpec::new(&ConvSizes { kernel: &[2], ..sizes }).unwrap();
    let mut y_other = vec![0.0; other.output_len()];
    assert_eq!(conv(isa, &other, &x, &weight, &mut y_other, &plain), Err(ConvError::Weight));
    let bias = Epilogue { bias: Bias::Rows(&x[..5]), ..plain };
    assert!(matches!(
        conv(isa, &spec, &x, &weight, &mut y, &bias),
        Err(ConvError::Length { what: "bias", .. })
    ));
    assert!(ConvWeight::new(form, &[0; 7]).is_err());
    assert!(WeightForm::parse("f32-plain", &spec).is_err());
    assert!(WeightForm::parse("f32-nr32", &spec).is_err());

    // A weight in panels of columns serves single pixels alone.
    let point = ConvSizes { groups: 1, kernel: &[1], ..sizes };
    let spec = ConvSpec::new(&point).unwrap();
    let form = WeightForm::with_extents(isa.level(), DType::F32, &spec);
    assert_ne!(form, WeightForm::new(isa.level(), DType::F32, &spec));
    let data = vec![1.0f32; form.bytes() / 4];
    let weight = ConvWeight::new(form, bytemuck::cast_slice(&data)).unwrap();
    let mut y = [0.0; 60];
    conv(isa, &spec, &x, &weight, &mut y, &plain).unwrap();
    assert_eq!(y, [4.0; 60]);
    let strided = ConvSpec::new(&ConvSizes { strides: &[2], ..point }).unwrap();
    assert_eq!(conv(isa, &strided, &x, &weight, &mut y[..30], &plain), Err(ConvError::Weight));
}
