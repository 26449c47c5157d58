//! Pictures against Pillow's decoding and resizing and transformers' image processors.
#![allow(clippy::unwrap_used, clippy::panic)]
#![cfg(feature = "image")]

mod common;

use common::{assets, cases, json, raw, tensors, text, worst};
use frit_processors::image::{Filter, ImageProcessor, Picture, decode, resize};
use frit_processors::{Assets, Error, RawFile};

#[test]
fn decoding_equals_pillow() {
    let wanted = tensors("images_rgb.safetensors");
    assert!(wanted.len() >= 8);
    for (name, (shape, pixels)) in wanted {
        let got = decode(&raw(&format!("images/{name}"))).unwrap();
        assert_eq!([got.height(), got.width(), 3], shape.as_slice(), "{name}");
        let got: Vec<f32> = got.pixels().iter().map(|&b| f32::from(b)).collect();
        // JPEG's inverse transform may round differently; PNG is exact.
        let tolerance = if name.ends_with(".jpg") { 2.0 } else { 0.0 };
        let off = worst(&got, &pixels);
        assert!(off <= tolerance, "{name}: off by {off}");
    }
}

#[test]
fn resizing_equals_pillow_to_the_last_bit() {
    let wanted = tensors("resize.safetensors");
    let entries = json("resize.json");
    let entries = entries.as_array().unwrap();
    assert!(entries.len() >= 50);
    for entry in entries {
        let key = text(&entry["key"]);
        let number = |k: &str| entry[k].as_u64().unwrap();
        let source = decode(&raw(&format!("images/{}", text(&entry["image"])))).unwrap();
        let filter = Filter::from_number(number("resample")).unwrap();
        let (width, height) = (number("width") as usize, number("height") as usize);
        let got = resize(&source, width, height, filter, key).unwrap();
        let (shape, pixels) = &wanted[key];
        assert_eq!(shape[..2], [height, width]);
        // Grey pictures are resized with one channel there, and with three equal ones here.
        let channels = shape[2];
        let want: Vec<u8> = match channels {
            3 => pixels.iter().map(|&p| p as u8).collect(),
            1 => pixels.iter().flat_map(|&p| [p as u8; 3]).collect(),
            _ => panic!("{channels} channels"),
        };
        assert!(got.pixels() == want, "{key} differs");
    }
}

#[test]
fn processors_equal_transformers() {
    for case in cases("image_processors") {
        let folder = format!("image_processors/{case}");
        let mut files = assets(&folder);
        if case.ends_with("named_nothing") {
            files.insert("config.json", br#"{"model_type": "vit"}"#.to_vec());
        }
        let processor = ImageProcessor::from_assets(&files).unwrap().unwrap();
        let expected = tensors(&format!("{folder}/expected.safetensors"));
        for name in json(&format!("{folder}/case.json"))["images"].as_array().unwrap() {
            let name = text(name);
            let got = processor.from_files(&[raw(&format!("images/{name}"))]).unwrap();
            let (shape, values) = &expected[name];
            let (got_shape, got_values) = (got.shape().to_vec(), got.to_f32_vec());
            if case == "beit_crop_pads" {
                check_odd_padding(&got_shape, &got_values, shape, values);
                continue;
            }
            assert_eq!(&got_shape, shape, "{case} {name}");
            let off = worst(&got_values, values);
            assert!(off == 0.0, "{case} {name}: off by {off}");
        }
    }
}

/// Where the picture is smaller than the crop by an odd number, transformers gives a row or column too few; ours has
/// the size that was asked for, with black there.
fn check_odd_padding(got_shape: &[usize], got: &[f32], shape: &[usize], values: &[f32]) {
    let ([_, c, gh, gw], [_, _, h, w]) =
        (<[usize; 4]>::try_from(got_shape).unwrap(), <[usize; 4]>::try_from(shape).unwrap());
    assert_eq!((gh, gw), (22, 21));
    assert!(h == gh - 1 && w == gw - 1, "{shape:?}");
    let black = (0.0f32 - 0.5) / 0.5;
    assert_eq!(got.len(), c * gh * gw);
    for (i, &value) in got.iter().enumerate() {
        let (ci, y, x) = (i / (gh * gw), i / gw % gh, i % gw);
        let want = if y < h && x < w { values[(ci * h + y) * w + x] } else { black };
        assert_eq!(value, want, "channel {ci}, row {y}, column {x}");
    }
}

#[test]
fn batches_need_equal_sizes() {
    let files: Assets = [(
        "preprocessor_config.json",
        br#"{"image_processor_type": "ViTImageProcessor", "do_resize": false}"#.to_vec(),
    )]
    .into_iter()
    .collect();
    let processor = ImageProcessor::from_assets(&files).unwrap().unwrap();
    let one = raw("images/rgb_53x37.png");
    assert_eq!(processor.from_files(&[one.clone(), one.clone()]).unwrap().shape(), [2, 3, 37, 53]);
    let error = processor.from_files(&[one, raw("images/rgb_19x41.png")]).unwrap_err();
    assert!(matches!(error, Error::Input { .. }), "{error}");
}

#[test]
fn bad_pictures_are_refused_by_name() {
    let named = |bytes: &[u8]| decode(&RawFile::new("my.png", bytes)).unwrap_err();
    assert!(matches!(named(b""), Error::ImageFormat { .. }));
    assert!(matches!(named(b"GIF89a..."), Error::ImageFormat { .. }));
    assert!(matches!(named(b"\x89PNG\r\n\x1a\n"), Error::ImageDamaged { .. }));
    for file in ["rgb_53x37.png", "photo_48x33.jpg", "palette_27x21.png"] {
        let whole = raw(&format!("images/{file}")).bytes;
        let error = named(&whole[..whole.len() / 2]);
        assert!(error.to_string().contains("my.png"), "{error}");
    }
    // A header that promises more pixels than are taken is refused before anything is decoded.
    let mut huge = raw("images/rgb_53x37.png").bytes;
    huge[16..20].copy_from_slice(&60_000u32.to_be_bytes());
    huge[20..24].copy_from_slice(&60_000u32.to_be_bytes());
    let crc = crc32(&huge[12..29]);
    huge[29..33].copy_from_slice(&crc.to_be_bytes());
    assert!(matches!(named(&huge), Error::ImageSize { width: 60_000, .. }));
    assert!(matches!(Picture::new(0, 4, vec![], "none"), Err(Error::ImageSize { .. })));
    let dot = Picture::new(1, 1, vec![1, 2, 3], "dot").unwrap();
    assert!(matches!(resize(&dot, 0, 5, Filter::Bicubic, "dot"), Err(Error::ImageSize { .. })));
    assert!(matches!(resize(&dot, 1 << 20, 5, Filter::Bicubic, "dot"), Err(Error::ImageSize { .. })));
}

/// PNG's checksum, by its definition.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &b| {
        (0..8).fold(crc ^ u32::from(b), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xedb8_8320 } else { c >> 1 })
    })
}
