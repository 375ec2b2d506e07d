//! Fuzzes the way from YAML to a snapshot, with every extension: see `properties::compile` for what must hold.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nuncio_config::compile::Registry;
use std::sync::LazyLock;

#[path = "../../crates/extensions/tests/yaml_corpus/properties.rs"]
mod properties;

static REGISTRY: LazyLock<Registry> = LazyLock::new(nuncio_extensions::registry);

fuzz_target!(|input: &[u8]| {
    properties::compile(&REGISTRY, input);
});
