#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| perennial_pipeline_fuzz::condition(text));
