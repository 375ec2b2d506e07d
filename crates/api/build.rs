//! Writes the schema table that `src/schema.rs` reads: the message, field and enum descriptors of the envoy-types crate, with
//! their validation rules, as offsets into one byte string.

#[path = "build/descriptors.rs"]
mod descriptors;
#[path = "build/table.rs"]
mod table;

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=build");
    let set = descriptors::find_descriptor_set()?;
    println!("cargo:rerun-if-changed={}", set.display());
    let pool = descriptors::load(&set)?;
    let bytes = table::write(&pool)?;
    let out = std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?;
    std::fs::write(Path::new(&out).join("schema.bin"), bytes)?;
    Ok(())
}
