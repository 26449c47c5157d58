//! Weight files as other programs write them, whole, truncated and damaged. Which weights a class takes is tested
//! beside `hf/weights/binding.rs`.

// A test that cannot read its fixtures fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use frit_frontends::hf::weights::{
    Checkpoint, CheckpointError, Damage, Fault, FileBytes, pickle::PickleError,
};
use frit_ir::DType;
use proptest::prelude::*;
use std::sync::{Arc, LazyLock};

fn file(name: &str) -> Vec<u8> {
    std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)).unwrap()
}

fn parse(bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
    let bytes: FileBytes = Arc::new(bytes.to_vec());
    Checkpoint::parse_bytes("file", bytes)
}

fn read_all(checkpoint: &Checkpoint) {
    for name in checkpoint.names() {
        let _ = checkpoint.tensor(name);
    }
}

fn small_safetensors() -> Vec<u8> {
    let view = |shape: &[usize], data: &'static [u8]| {
        safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.to_vec(), data).unwrap()
    };
    static DATA: [u8; 48] = [1; 48];
    safetensors::serialize([("a.weight", view(&[3, 4], &DATA)), ("b", view(&[2], &DATA[..8]))], None).unwrap()
}

#[test]
fn torch_files_of_every_form_give_the_same_tensors() {
    for name in ["torch-zip.bin", "torch-legacy.bin", "torch-protocol4.bin"] {
        let checkpoint = parse(&file(name)).unwrap();
        assert_eq!(checkpoint.len(), 15, "{name}");
        let check = |key: &str, dtype: DType, shape: &[usize], values: &[f64]| {
            let tensor = checkpoint.tensor(key).unwrap();
            assert_eq!((tensor.dtype(), tensor.shape()), (dtype, shape), "{name} {key}");
            assert_eq!(tensor.to_f64_vec(), values, "{name} {key}");
        };
        let ramp: Vec<f64> = (0..12).map(f64::from).collect();
        check("plain", DType::F32, &[3, 4], &ramp);
        check("transposed", DType::F32, &[4, 3], &[0., 4., 8., 1., 5., 9., 2., 6., 10., 3., 7., 11.]);
        check("slice", DType::F32, &[2, 2], &[5., 6., 9., 10.]);
        check("expanded", DType::F32, &[2, 3], &[5., 5., 5., 6., 6., 6.]);
        check("half", DType::F16, &[3], &[1.5, -2., 0.25]);
        check("bfloat", DType::BF16, &[3], &[1.5, -2., 0.25]);
        check("double", DType::F64, &[1, 1], &[1e-300]);
        check("long", DType::I64, &[1, 2], &[-1., (1u64 << 40) as f64]);
        check("int", DType::I32, &[1], &[7.]);
        check("byte", DType::U8, &[1], &[255.]);
        check("bool", DType::Bool, &[2], &[1., 0.]);
        check("scalar", DType::F32, &[], &[3.]);
        check("empty", DType::F32, &[0, 4], &[]);
        check("parameter", DType::F32, &[1], &[9.]);
        check("shared", DType::F32, &[4], &[4., 5., 6., 7.]);
    }
}

#[test]
fn a_pickle_that_imports_is_refused_by_name_and_place() {
    for name in ["torch-evil-zip.bin", "torch-evil-legacy.bin"] {
        let bytes = file(name);
        let Err(CheckpointError::Damaged { damage: Damage { offset, fault, .. }, .. }) = parse(&bytes) else {
            panic!("{name} was read");
        };
        assert!(
            matches!(&fault, Fault::Pickle(PickleError::Import { module, name })
                if (module == "posix" || module == "nt") && name == "system"),
            "{fault:?}"
        );
        let at = usize::try_from(offset.unwrap()).unwrap();
        assert!(bytes[at..].starts_with(b"cposix\nsystem"), "{name}: the offset is that of the import");
    }
}

#[test]
fn imports_near_the_list_are_refused() {
    for import in [
        "torch.storage\n_load_from_bytes",
        "torch\nload",
        "torch._utils\n_rebuild_sparse_tensor",
        "builtins\neval",
        "collections\nabc",
        "torch.hub\nload",
    ] {
        let bytes = [b"\x80\x02c".as_slice(), import.as_bytes(), b"\n."].concat();
        let Err(CheckpointError::Damaged { damage, .. }) = parse(&bytes) else { panic!("{import} was read") };
        assert!(matches!(damage.fault, Fault::Pickle(PickleError::Import { .. })), "{import}: {damage}");
    }
}

#[test]
fn nesting_of_any_depth_is_no_stack_overflow() {
    let mut bytes = b"\x80\x02N".to_vec();
    bytes.extend(std::iter::repeat_n(0x85, 1 << 20));
    bytes.push(b'.');
    assert!(parse(&bytes).is_err());
}

#[test]
fn truncated_safetensors_name_the_tensor_and_the_byte() {
    let bytes = small_safetensors();
    assert_eq!(parse(&bytes).unwrap().len(), 2);
    for len in 0..bytes.len() {
        let Err(error) = parse(&bytes[..len]) else { panic!("{len} bytes were read") };
        let message = error.to_string();
        assert!(message.starts_with("file: "), "{message}");
    }
    let message = parse(&bytes[..bytes.len() - 1]).err().unwrap().to_string();
    assert!(
        message.contains("tensor `") && message.contains("at byte") && message.contains("truncated"),
        "{message}"
    );
    let message = parse(&[&bytes[..], b"x"].concat()).err().unwrap().to_string();
    assert!(message.contains("1 bytes follow"), "{message}");
}

#[test]
fn every_truncation_of_a_torch_file_is_an_error() {
    for name in ["torch-zip.bin", "torch-legacy.bin"] {
        let bytes = file(name);
        for len in 0..bytes.len() {
            assert!(parse(&bytes[..len]).is_err(), "{name} cut to {len} of {} bytes was read", bytes.len());
        }
    }
}

#[test]
fn a_header_length_that_reads_like_a_pickle_does_not_mislead() {
    // 0x0280 = 640 is stored as 80 02, the opening of a pickle.
    let header = format!("{:<640}", r#"{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#);
    let bytes = [&640u64.to_le_bytes()[..], header.as_bytes(), &1f32.to_le_bytes()[..]].concat();
    assert_eq!(parse(&bytes).unwrap().tensor("x").unwrap().to_f32_vec(), [1.0]);
}

#[test]
fn shards_are_found_through_the_index() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("one.safetensors"), small_safetensors()).unwrap();
    let index = dir.path().join("model.safetensors.index.json");
    let write =
        |map: &str| std::fs::write(&index, format!("{{\"metadata\":{{}},\"weight_map\":{map}}}")).unwrap();
    write(r#"{"a.weight":"one.safetensors","b":"one.safetensors"}"#);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["a.weight", "b"]);
    write(r#"{"a.weight":"one.safetensors","absent":"one.safetensors"}"#);
    assert!(matches!(Checkpoint::open(dir.path()), Err(CheckpointError::IndexMismatch { absent, .. })
        if absent == ["absent (in one.safetensors)"]));
    write(r#"{"a.weight":"../one.safetensors"}"#);
    assert!(matches!(Checkpoint::open(dir.path()), Err(CheckpointError::UnsafePath { .. })));
    std::fs::write(&index, "{").unwrap();
    assert!(matches!(Checkpoint::open(dir.path()), Err(CheckpointError::BadIndex { .. })));
}

#[test]
fn a_folder_without_weights_says_what_was_found() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tf_model.h5"), b"x").unwrap();
    let message = Checkpoint::open(dir.path()).err().unwrap().to_string();
    assert!(message.contains("tf_model.h5"), "{message}");
    assert!(Checkpoint::open(&dir.path().join("nothing")).is_err());
}

#[test]
fn hostile_checkpoints_are_refused() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/hostile");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "bin") {
            count += 1;
            let result = parse(&std::fs::read(&path).unwrap());
            assert!(result.is_err(), "{} was read", path.display());
        }
    }
    assert!(count >= 20, "only {count} files");
}

static ZIP: LazyLock<Vec<u8>> = LazyLock::new(|| file("torch-zip.bin"));
static LEGACY: LazyLock<Vec<u8>> = LazyLock::new(|| file("torch-legacy.bin"));
static SAFETENSORS: LazyLock<Vec<u8>> = LazyLock::new(small_safetensors);

fn flipped(bytes: &[u8], flips: &[(prop::sample::Index, u8)]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (index, mask) in flips {
        let at = index.index(bytes.len());
        bytes[at] ^= mask;
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bit_flips_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..6)) {
        for bytes in [&*ZIP, &*LEGACY, &*SAFETENSORS] {
            if let Ok(checkpoint) = parse(&flipped(bytes, &flips)) {
                read_all(&checkpoint);
            }
        }
    }

    #[test]
    fn any_pickle_bytes_never_panic(tail in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&[b"\x80\x02".as_slice(), &tail].concat());
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
    }
}
