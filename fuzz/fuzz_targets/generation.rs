//! libFuzzer's entry to [`frit_fuzz::generation`]; the logic is there.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| frit_fuzz::generation(data));
