//! CEL: `cel.expr`, its older form `google.api.expr.v1alpha1`, and `xds.type.v3.CelExpression`.

use crate::compile::{Compile, Invalid};
use nuncio_api::pb::cel::expr as pb;
use nuncio_api::pb::envoy::config::core::v3::CelExpressionConfig;
use nuncio_api::pb::google::api::expr::v1alpha1 as older;
use nuncio_api::pb::xds::r#type::v3::{CelExpression, cel_expression::ExprSpecifier};
use nuncio_cel::{Expr, MAX_DEPTH, Options, Program, Value};
use nuncio_stream_info::{Expression, LogContext};
use pb::constant::ConstantKind;
use pb::expr::{ExprKind, create_struct::entry::KeyKind};
use prost::Message;
use std::borrow::Cow;
use std::sync::Arc;

/// `CelExpressionConfig`.
pub fn cel_options(config: Option<&CelExpressionConfig>) -> Options {
    let Some(CelExpressionConfig { enable_string_conversion, enable_string_concat, enable_string_functions }) = config
    else {
        return Options::default();
    };
    Options {
        string_conversion: *enable_string_conversion,
        string_concat: *enable_string_concat,
        string_functions: *enable_string_functions,
    }
}

/// An expression in text form.
pub fn cel_text(text: &str, options: Options, cx: &mut Compile<'_>) -> Result<Program, Invalid> {
    Program::parse(text, options).map_err(|error| cx.error(format!("the CEL expression {error}")))
}

/// An expression of a format: `%CEL(text)%`.
pub(super) fn formatted(text: &str) -> Result<Arc<dyn Expression>, String> {
    match Program::parse(text, Options::default()) {
        Ok(program) => Ok(Arc::new(Formatted(program))),
        Err(error) => Err(format!("the CEL expression {error}")),
    }
}

#[derive(Debug)]
struct Formatted(Program);

impl Expression for Formatted {
    fn write(&self, cx: &LogContext<'_>, out: &mut Vec<u8>) -> bool {
        self.0.write(cx, out)
    }

    fn write_json(&self, cx: &LogContext<'_>, out: &mut Vec<u8>) -> bool {
        self.0.write_json(cx, out)
    }
}

/// `google.api.expr.v1alpha1.Expr`.
pub fn cel_older(expr: &older::Expr, options: Options, cx: &mut Compile<'_>) -> Result<Program, Invalid> {
    // The two are one on the wire.
    match pb::Expr::decode(&expr.encode_to_vec()[..]) {
        Ok(expr) => program(&expr, options, cx),
        Err(error) => Err(cx.error(format!("can't be decoded: {error}"))),
    }
}

/// `CelExpression`, whichever of its forms it has.
pub fn cel_expression(config: &CelExpression, options: Options, cx: &mut Compile<'_>) -> Result<Program, Invalid> {
    let CelExpression { cel_expr_parsed, cel_expr_checked, cel_expr_string, expr_specifier } = config;
    if let Some(checked) = cel_expr_checked {
        return some(checked.expr.as_ref(), options, &mut cx.field("cel_expr_checked"));
    }
    if let Some(parsed) = cel_expr_parsed {
        return some(parsed.expr.as_ref(), options, &mut cx.field("cel_expr_parsed"));
    }
    if !cel_expr_string.is_empty() {
        return cel_text(cel_expr_string, options, &mut cx.field("cel_expr_string"));
    }
    #[allow(deprecated)]
    let (expr, field) = match expr_specifier {
        Some(ExprSpecifier::ParsedExpr(parsed)) => (parsed.expr.as_ref(), "parsed_expr"),
        Some(ExprSpecifier::CheckedExpr(checked)) => (checked.expr.as_ref(), "checked_expr"),
        None => return Err(cx.error_hint("holds no expression", "set cel_expr_string")),
    };
    let mut cx = cx.field(field);
    match expr {
        Some(expr) => cel_older(expr, options, &mut cx.field("expr")),
        None => Err(cx.field("expr").error("is required")),
    }
}

fn some(expr: Option<&pb::Expr>, options: Options, cx: &mut Compile<'_>) -> Result<Program, Invalid> {
    match expr {
        Some(expr) => program(expr, options, &mut cx.field("expr")),
        None => Err(cx.field("expr").error("is required")),
    }
}

fn program(expr: &pb::Expr, options: Options, cx: &mut Compile<'_>) -> Result<Program, Invalid> {
    let lowered = lower(expr, MAX_DEPTH).and_then(|expr| Program::new(&expr, options).map_err(|error| error.0));
    lowered.map_err(|error| cx.error(format!("the CEL expression: {error}")))
}

fn lower(expr: &pb::Expr, depth: usize) -> Result<Expr, String> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(format!("more than {MAX_DEPTH} expressions inside one another"));
    };
    let below = |expr: &pb::Expr| lower(expr, depth);
    let required = |expr: Option<&pb::Expr>| expr.map_or_else(|| Err("a part is missing".to_owned()), below);
    match &expr.expr_kind {
        None => Err("a part says nothing".to_owned()),
        Some(ExprKind::ConstExpr(constant)) => constant_value(constant).map(Expr::Constant),
        Some(ExprKind::IdentExpr(ident)) => Ok(Expr::Ident(ident.name.as_str().into())),
        Some(ExprKind::SelectExpr(select)) => {
            let operand = Box::new(required(select.operand.as_deref())?);
            let field = select.field.as_str().into();
            Ok(if select.test_only { Expr::Has(operand, field) } else { Expr::Select(operand, field) })
        }
        Some(ExprKind::CallExpr(call)) => {
            let target = call.target.as_deref().map(below).transpose()?;
            let arguments = call.args.iter().map(below).collect::<Result<Vec<_>, _>>()?;
            Ok(Expr::Call(call.function.as_str().into(), target.into_iter().chain(arguments).collect()))
        }
        Some(ExprKind::ListExpr(list)) if list.optional_indices.is_empty() => {
            list.elements.iter().map(below).collect::<Result<_, _>>().map(Expr::List)
        }
        Some(ExprKind::ListExpr(_)) => Err("optional elements are not supported".to_owned()),
        Some(ExprKind::StructExpr(map)) if map.message_name.is_empty() => {
            let entry = |entry: &pb::expr::create_struct::Entry| {
                let key = match &entry.key_kind {
                    Some(KeyKind::MapKey(key)) => below(key)?,
                    Some(KeyKind::FieldKey(_)) | None => return Err("a map has an entry without a key".to_owned()),
                };
                Ok((key, required(entry.value.as_ref())?))
            };
            map.entries.iter().map(entry).collect::<Result<_, _>>().map(Expr::Map)
        }
        Some(ExprKind::StructExpr(message)) => Err(format!("messages can't be made: {}", message.message_name)),
        Some(ExprKind::ComprehensionExpr(_)) => {
            Err("comprehensions (all, exists, map, filter) are not allowed, as in Envoy".to_owned())
        }
    }
}

fn constant_value(constant: &pb::Constant) -> Result<Value<'static>, String> {
    let text = |text: &[u8]| Cow::Owned(text.to_vec());
    #[allow(deprecated)]
    Ok(match &constant.constant_kind {
        None => return Err("a literal has no value".to_owned()),
        Some(ConstantKind::NullValue(_)) => Value::Null,
        Some(ConstantKind::BoolValue(bool)) => Value::Bool(*bool),
        Some(ConstantKind::Int64Value(number)) => Value::Int(*number),
        Some(ConstantKind::Uint64Value(number)) => Value::Uint(*number),
        Some(ConstantKind::DoubleValue(number)) => Value::Double(*number),
        Some(ConstantKind::StringValue(value)) => Value::Text(text(value.as_bytes())),
        Some(ConstantKind::BytesValue(value)) => Value::Bytes(text(value)),
        Some(ConstantKind::DurationValue(span)) => {
            let nanos = span.seconds.checked_mul(1_000_000_000).and_then(|nanos| nanos.checked_add(span.nanos.into()));
            Value::Duration(nanos.ok_or("a duration is too long")?)
        }
        Some(ConstantKind::TimestampValue(at)) => {
            Value::Timestamp(i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos))
        }
    })
}
