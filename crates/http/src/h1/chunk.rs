//! The lines between the chunks of a chunked body.

use super::error::{CodecError, CodecErrorKind};

/// The line before a chunk.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ChunkHead {
    /// Bytes of the chunk; 0 is the last chunk.
    pub(super) size: u64,
    /// Bytes of the line, its end included.
    pub(super) len: usize,
    /// Bytes between the size and the line end.
    pub(super) extension: usize,
}

/// Limit of a line, in bytes. Nobody uses extensions; those that do need dozens of bytes.
const MAX_LINE: usize = 4096;
/// Limit of all extensions of a body together, in bytes.
///
/// RFC 9112 §7.1.1: "a server ought to limit the total length of chunk extensions received in a request to an amount
/// reasonable for the services provided".
const MAX_EXTENSIONS: u32 = 16 * 1024;

const BAD_SIZE: CodecError = CodecError::new(CodecErrorKind::Chunk, "invalid chunk size");
const BAD_EXTENSION: CodecError = CodecError::new(CodecErrorKind::Chunk, "invalid chunk extension");
const TOO_LONG: CodecError = CodecError::new(CodecErrorKind::Chunk, "chunk extensions are too long");
pub(super) const BAD_END: CodecError = CodecError::new(CodecErrorKind::Chunk, "a chunk does not end with CR LF");

/// Reads the line before a chunk from the start of `buf`; `None` if it is not complete.
///
/// RFC 9112 §7.1: `chunk = chunk-size [ chunk-ext ] CRLF chunk-data CRLF`, `chunk-size = 1*HEXDIG`. No sign, no `0x`, no
/// white space before it. White space behind it belongs to the extension (`BWS ";"`), and is let pass without one.
pub(super) fn parse_head(buf: &[u8]) -> Result<Option<ChunkHead>, CodecError> {
    let mut size = 0u64;
    let mut digits = 0;
    for byte in buf {
        let Some(digit) = (*byte as char).to_digit(16) else { break };
        // RFC 9112 §7.1: "Recipients MUST anticipate potentially large hexadecimal numerals and prevent parsing errors
        // due to integer conversion overflows".
        size = size.checked_mul(16).ok_or(BAD_SIZE)? | u64::from(digit);
        digits += 1;
    }
    let rest = buf.get(digits..).unwrap_or_default();
    match rest {
        _ if digits > MAX_LINE => Err(TOO_LONG),
        [] => Ok(None),
        _ if digits == 0 => Err(BAD_SIZE),
        [b'\r', b'\n', ..] => Ok(Some(ChunkHead { size, len: digits + 2, extension: 0 })),
        [b'\r'] => Ok(None),
        [b';' | b' ' | b'\t', ..] => {
            let Some(extension) = extension_length(rest)? else { return Ok(None) };
            Ok(Some(ChunkHead { size, len: digits + extension + 2, extension }))
        }
        _ => Err(BAD_SIZE),
    }
}

/// The length of what stands between size and line end; `None` if the end is not there yet.
///
/// RFC 9112 §7.1.1: "A recipient MUST ignore unrecognized chunk extensions." They are ignored as text without control
/// characters: a lone CR or LF in one would be the end of the line to another reader.
fn extension_length(rest: &[u8]) -> Result<Option<usize>, CodecError> {
    let blank = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    match rest.get(blank) {
        None | Some(b';' | b'\r') => {}
        Some(_) => return Err(BAD_SIZE),
    }
    let is_text = |byte: &&u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
    let text = rest.iter().take(MAX_LINE + 1).take_while(is_text).count();
    if text > MAX_LINE {
        return Err(TOO_LONG);
    }
    match rest.get(text..) {
        Some([b'\r', b'\n', ..]) => Ok(Some(text)),
        Some([] | [b'\r']) => Ok(None),
        _ => Err(BAD_EXTENSION),
    }
}

/// Adds to the extensions of a body.
pub(super) fn add_extension(sum: u32, extension: usize) -> Result<u32, CodecError> {
    let sum = sum.saturating_add(u32::try_from(extension).unwrap_or(u32::MAX));
    if sum > MAX_EXTENSIONS { Err(TOO_LONG) } else { Ok(sum) }
}
