//! Tests of transcode.
