//! The messages that JSON treats in their own way.

use super::{Kind, MessageRef};

/// What kind of well-known type a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WellKnown {
    /// `google.protobuf.Any`: a message of the type that its URL names.
    Any,
    /// `google.protobuf.Duration`: `1.5s`.
    Duration,
    /// `google.protobuf.Timestamp`: RFC 3339.
    Timestamp,
    /// `google.protobuf.FieldMask`: paths joined with commas.
    FieldMask,
    /// `google.protobuf.Empty`.
    Empty,
    /// `google.protobuf.Struct`: any mapping.
    Struct,
    /// `google.protobuf.Value`: anything.
    Value,
    /// `google.protobuf.ListValue`: any sequence.
    ListValue,
    /// A wrapper such as `google.protobuf.UInt32Value`: its one field, plain.
    Wrapper(Kind),
    /// `xds.type.v3.TypedStruct` or `udpa.type.v1.TypedStruct`: the fields of another type as a `Struct`.
    TypedStruct,
}

impl MessageRef {
    /// What kind of well-known type the message is, if it is one.
    pub fn well_known(self) -> Option<WellKnown> {
        let name = self.full_name();
        let Some(own) = name.strip_prefix("google.protobuf.") else {
            let typed_struct = matches!(name, "xds.type.v3.TypedStruct" | "udpa.type.v1.TypedStruct");
            return typed_struct.then_some(WellKnown::TypedStruct);
        };
        Some(match own {
            "Any" => WellKnown::Any,
            "Duration" => WellKnown::Duration,
            "Timestamp" => WellKnown::Timestamp,
            "FieldMask" => WellKnown::FieldMask,
            "Empty" => WellKnown::Empty,
            "Struct" => WellKnown::Struct,
            "Value" => WellKnown::Value,
            "ListValue" => WellKnown::ListValue,
            "DoubleValue" => WellKnown::Wrapper(Kind::Double),
            "FloatValue" => WellKnown::Wrapper(Kind::Float),
            "Int64Value" => WellKnown::Wrapper(Kind::Int64),
            "UInt64Value" => WellKnown::Wrapper(Kind::Uint64),
            "Int32Value" => WellKnown::Wrapper(Kind::Int32),
            "UInt32Value" => WellKnown::Wrapper(Kind::Uint32),
            "BoolValue" => WellKnown::Wrapper(Kind::Bool),
            "StringValue" => WellKnown::Wrapper(Kind::String),
            "BytesValue" => WellKnown::Wrapper(Kind::Bytes),
            _ => return None,
        })
    }
}
