//! libFuzzer's entry to [`frit_fuzz::onnx`]; the logic is there. Half of the inputs are changed as messages, half as
//! bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| frit_fuzz::onnx(data));

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut stream = frit_fuzz::replay::Stream(u64::from(seed));
    let changed = if seed % 8 == 0 { None } else { frit_fuzz::mutate_onnx(&data[..size], &mut stream) };
    match changed.filter(|c| c.len() <= max_size) {
        Some(changed) => {
            data[..changed.len()].copy_from_slice(&changed);
            changed.len()
        }
        None => libfuzzer_sys::fuzzer_mutate(data, size, max_size),
    }
});
