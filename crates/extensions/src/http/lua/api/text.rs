//! Base64 for scripts.

use super::Primitives;
use crate::base64::{decode, encode};
use mlua::{Error, LuaString};
use std::rc::Rc;

pub(super) fn add(primitives: &Primitives<'_>) -> Result<(), Error> {
    let budget = Rc::clone(&primitives.shared.budget);
    primitives.free("base64_encode", move |lua, bytes: LuaString| {
        budget.bytes(lua, bytes.as_bytes().len())?;
        lua.create_string(encode(&bytes.as_bytes()))
    })?;
    let budget = Rc::clone(&primitives.shared.budget);
    primitives.free("base64_decode", move |lua, text: LuaString| {
        budget.bytes(lua, text.as_bytes().len())?;
        decode(&text.as_bytes()).map(|bytes| lua.create_string(bytes)).transpose()
    })
}
