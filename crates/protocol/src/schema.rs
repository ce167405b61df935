//! Helpers that describe the types of this crate for the OpenAPI document. Types that are not objects are inlined, so that each member
//! keeps its own description.
//!
//! Three keywords are for those who read the schemas, and do not reach the document: `x-examples` has examples of a request by name,
//! summary and value; `x-others` has what differs in further items of a list; `x-unit` stands behind a bound in texts.

use serde_json::Value;

/// Texts that go to people and databases contain no NUL.
pub const NO_NUL: &str = "^[^\\u0000]*$";
/// A key of a machine.
pub(crate) const MACHINE_KEY: &str = "^ak_[0-9A-Za-z_-]+$";
/// A key of an instance.
pub(crate) const INSTANCE_KEY: &str = "^sk_(live|test)_[0-9A-Za-z]{48}$";
/// A URL in ASCII without a slash at its end.
pub(crate) const ISSUER: &str = "^https?://[!-~]*[!-.0-~]$";
/// A machine's id, as a request names it.
pub(crate) const MACHINE_ID: &str = "^mch_[0-9A-Za-z_]{27}$";

/// The machine that is called in examples.
pub(crate) const LEDGER: &str = "mch_2yGkLpQ7Y3rXSwtU24CzTk9I7Em";
/// The next signing key in examples.
pub(crate) const NEXT_KEY: &str = "ins_36sCAr6gS5M5C4x9CxLYQXDhIF1";
pub(crate) const EXAMPLE_TIME: i64 = 1_767_225_600_000;
pub(crate) const EXAMPLE_TOKEN: &str = "mt_EXAMPLE0TOKEN0EXAMPLE0TOKEN0EXAMPLE0TOKEN0E";
pub(crate) const EXAMPLE_KEY: &str = "ak_EXAMPLE0KEY0EXAMPLE0KEY0EXAMPLE0KEY0EXAMPLE0KEY0";
pub(crate) const EXAMPLE_INSTANCE_KEY: &str =
    "sk_live_EXAMPLE0KEY0EXAMPLE0KEY0EXAMPLE0KEY0EXAMPLE0KEY0";
pub(crate) const EXAMPLE_MODULUS: &str = "wB1oxLQ3TTxUAW4rxE7mIrb5nC0ZHcDdcnT9mYfDqYhdfUeQnUnhrn3I5Ft6kvXcVjYvOY_kLr0iCnCRvRzUQpXsX8cMjQ";

/// Requires all members: some are an `Option` for readers only.
pub(crate) fn all_required(schema: &mut schemars::Schema) {
    let members = schema.get("properties").and_then(Value::as_object);
    let names: Vec<Value> = members
        .into_iter()
        .flat_map(|members| members.keys().cloned().map(Value::from))
        .collect();
    schema.insert("required".to_owned(), names.into());
}

/// Describes a type in place.
macro_rules! in_place {
    ($type:ty, $name:expr, $schema:expr) => {
        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $schema
            }
        }
    };
}
pub(crate) use in_place;
