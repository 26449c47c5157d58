//! Right models, wrong inputs: tensors by name, type and size, sounds, pictures, and flags. Damaged models are in the
//! other files.

use super::harness::{Room, bert, bert_inputs, frit, repository, safetensors};

fn refused(tensors: &[u8], names: &[&str]) {
    let room = Room::new();
    let inputs = room.write("in.safetensors", tensors).display().to_string();
    let outputs = room.write("out.safetensors", b"old").display().to_string();
    let model = bert().display().to_string();
    room.refuses(&["run", &model, "--inputs", &inputs, "--outputs", &outputs], names);
    // The same of the compiled model.
    let compiled = room.path("model.frit").display().to_string();
    assert_eq!(frit(&["compile", &model, "-o", &compiled]).status, Some(0));
    room.refuses(&["run", &compiled, "--inputs", &inputs, "--outputs", &outputs], names);
    assert_eq!(std::fs::read(room.path("out.safetensors")).unwrap(), b"old");
}

fn ids(values: &[i64], shape: &str) -> Vec<u8> {
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let header =
        format!(r#"{{"input_ids":{{"dtype":"I64","shape":{shape},"data_offsets":[0,{}]}}}}"#, data.len());
    safetensors(&header, &data)
}

#[test]
fn tensors_that_do_not_fit() {
    refused(&ids(&[1, 2, 3], "[3]"), &["input_ids"]);
    refused(&ids(&[1, 2, 3], "[1,1,3]"), &["input_ids"]);
    refused(&ids(&[1, 97], "[1,2]"), &["97"]);
    refused(&ids(&[1, i64::MAX], "[1,2]"), &["9223372036854775807"]);
    refused(&ids(&[1, i64::MIN], "[1,2]"), &["-9223372036854775808"]);
    refused(&ids(&[1; 40], "[1,40]"), &["position_embeddings", "29"]);
    let floats = r#"{"input_ids":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}"#;
    refused(&safetensors(floats, &[0; 8]), &["input_ids"]);
    let stranger = r#"{"input_idz":{"dtype":"I64","shape":[1,2],"data_offsets":[0,16]}}"#;
    refused(&safetensors(stranger, &[0; 16]), &["input_idz"]);
    let twice = r#"{"attention_mask":{"dtype":"I64","shape":[1,3],"data_offsets":[16,40]},"input_ids":{"dtype":"I64","shape":[1,2],"data_offsets":[0,16]}}"#;
    refused(&safetensors(twice, &[0; 40]), &["3"]);
    refused(&safetensors("{}", &[]), &["input"]);
}

#[test]
fn tensor_files_that_are_damaged() {
    let good = std::fs::read(bert_inputs()).unwrap();
    for cut in [0, 4, 8, 40, good.len() - 1] {
        refused(&good[..cut], &["in.safetensors"]);
    }
    refused(&(1u64 << 63).to_le_bytes(), &["in.safetensors"]);
    let room = Room::new();
    let (model, outputs) = (bert().display().to_string(), room.path("out.safetensors").display().to_string());
    for path in [room.fifo("pipe"), room.path("absent"), room.path(""), "/dev/zero".into()] {
        let path = path.display().to_string();
        room.refuses(&["run", &model, "--inputs", &path, "--outputs", &outputs], &[&path]);
    }
}

#[test]
fn outputs_that_cannot_be_written() {
    let room = Room::new();
    let (model, inputs) = (bert().display().to_string(), bert_inputs().display().to_string());
    std::fs::create_dir(room.path("folder")).unwrap();
    for name in ["folder", "absent/out.safetensors"] {
        let out = room.path(name).display().to_string();
        room.refuses(&["run", &model, "--inputs", &inputs, "--outputs", &out], &[name]);
        room.refuses(&["compile", &model, "-o", &out], &[name]);
    }
    room.refuses(&["run", &model, "--inputs", &inputs], &["--outputs"]);
    room.refuses(&["run", &model], &["--inputs"]);
    room.refuses(&["compile", &model, "-o", "x.frit", "--head", "MysteryModel"], &["MysteryModel"]);
    room.refuses(&["compile", &model, "-o", "x.frit", "--entry", "mystery"], &["mystery"]);
    room.refuses(&["compile", &model, "-o", "x.frit", "--select", "mystery"], &["mystery"]);
    room.refuses(&["compile", &model, "-o", "x.frit", "--signature", "input_ids,mystery"], &["mystery"]);
    room.refuses(&["compile", &model, "-o", "x.frit", "--target", "mystery"], &["mystery"]);
    room.refuses(&["compile", &model, "-o", "x.frit", "--dim", "batch=-1"], &["batch"]);
    room.refuses(&["compile", &model, "-o", "x.frit", "--dim", "mystery"], &["mystery"]);
    room.refuses(
        &["run", &model, "--inputs", &inputs, "--outputs", "x", "--backend", "mystery"],
        &["mystery"],
    );
    room.refuses(&["run", &model, "--inputs", &inputs, "--outputs", "x", "--threads", "0"], &["--threads"]);
}

/// A wav file of 16-bit samples.
fn wav(samples: usize) -> Vec<u8> {
    let bytes = u32::try_from(samples * 2).unwrap();
    let mut out = b"RIFF".to_vec();
    out.extend((36 + bytes).to_le_bytes());
    out.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0data");
    out.extend(bytes.to_le_bytes());
    out.extend((0..samples).flat_map(|i| (((i * 37) % 2000) as i16 - 1000).to_le_bytes()));
    out
}

#[test]
fn sounds() {
    let room = Room::new();
    let model = repository().join("examples/spoken-digits").display().to_string();
    let whole = wav(8000);
    let mut huge = whole.clone();
    huge[40..44].copy_from_slice(&u32::MAX.to_le_bytes());
    for (name, bytes) in [
        ("short.wav", wav(10)),
        ("none.wav", wav(0)),
        ("empty.wav", vec![]),
        ("cut.wav", whole[..whole.len() / 2].to_vec()),
        ("huge.wav", huge),
        ("text.wav", b"not a sound at all".to_vec()),
        ("header.wav", whole[..30].to_vec()),
    ] {
        let path = room.write(name, &bytes).display().to_string();
        room.refuses(&["run", &model, "--audio", &path], &[]);
    }
    for path in [room.fifo("pipe.wav"), room.path("absent.wav"), room.path(""), "/dev/zero".into()] {
        let path = path.display().to_string();
        room.refuses(&["run", &model, "--audio", &path], &[&path]);
    }
    room.refuses(&["run", &model, "--text", "hello"], &[]);
}

#[test]
fn pictures() {
    let room = Room::new();
    let model = repository().join("examples/digits").display().to_string();
    let images = repository().join("tests/fixtures/processors/images");
    let png = std::fs::read(images.join("rgb_53x37.png")).unwrap();
    let jpg = std::fs::read(images.join("photo_48x33.jpg")).unwrap();
    // A header that claims 2^31 - 1 pixels a side, with a right checksum.
    let mut bomb = png.clone();
    bomb[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
    let crc = crc32(&bomb[12..29]).to_be_bytes();
    bomb[29..33].copy_from_slice(&crc);
    for (name, bytes) in [
        ("cut.png", png[..png.len() / 2].to_vec()),
        ("cut.jpg", jpg[..jpg.len() / 2].to_vec()),
        ("empty.png", vec![]),
        ("bomb.png", bomb),
        ("text.png", b"not a picture at all".to_vec()),
        ("gif.png", b"GIF89a\x01\0\x01\0\0\0\0;".to_vec()),
    ] {
        let path = room.write(name, &bytes).display().to_string();
        room.refuses(&["run", &model, "--image", &path], &[name]);
    }
    for path in [room.fifo("pipe.png"), room.path("absent.png"), room.path("")] {
        let path = path.display().to_string();
        room.refuses(&["run", &model, "--image", &path], &[&path]);
    }
    // One pixel is a picture like any other: it is resized.
    let one = frit(&["run", &model, "--image", &images.join("one_pixel.png").display().to_string()]);
    assert_eq!(one.status, Some(0), "{}", one.stderr);
}

/// The checksum of PNG chunks.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &b| {
        (0..8).fold(crc ^ u32::from(b), |c, _| if c & 1 == 1 { c >> 1 ^ 0xedb8_8320 } else { c >> 1 })
    })
}
