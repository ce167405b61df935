//! Defines the settings of an instance and updates to them.

#[cfg(feature = "schema")]
use schemars::JsonSchema;
use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

#[cfg(feature = "schema")]
use crate::limits::MAX_ISSUER_LENGTH;
use crate::limits::MAX_TOKEN_TTL_SECONDS;
use crate::problem::{Invalid, Place, Problem};
#[cfg(feature = "schema")]
use crate::schema::ISSUER;

/// The lifetime of an opaque token if the request names no expiration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NullExpiration {
    /// The machine's `default_token_ttl` applies.
    #[default]
    Default,
    /// The token never expires.
    Never,
}

/// A rate limit: at most `requests` requests in each window of `seconds` seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
#[cfg_attr(feature = "schema", schemars(inline))]
pub struct RateLimit {
    /// Maximum number of requests.
    #[cfg_attr(feature = "schema", schemars(with = "i64", range(min = 1, max = u32::MAX)))]
    pub requests: u32,
    /// Length of the window, in seconds.
    #[cfg_attr(
        feature = "schema",
        schemars(with = "i64", range(min = 1, max = 86_400))
    )]
    pub seconds: u32,
}

/// The settings of an instance. Missing members take their defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(JsonSchema))]
pub struct InstanceSettings {
    /// Whether JWTs carry `scopes`, the machines that they are for.
    pub jwt_scopes_claim: bool,
    /// Lifetime of an opaque token if the request names no expiration: the machine's `default_token_ttl`, or unlimited.
    pub null_expiration: NullExpiration,
    /// Maximum lifetime of a JWT, in seconds.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = MAX_TOKEN_TTL_SECONDS)))]
    pub max_jwt_ttl: i64,
    /// Whether machine keys are kept, sealed, so that they can be shown again.
    pub secret_reveal: bool,
    /// Whether `min_remaining_ttl_seconds` may return an existing token.
    pub token_pooling: bool,
    /// The `iss` of JWTs: a URL without a slash at its end. Null: the public URL of this authority.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = ISSUER), length(max = MAX_ISSUER_LENGTH)))]
    pub issuer: Option<String>,
    /// Rate limit for all machine keys of the instance together; null for no limit.
    pub rate_limit: Option<RateLimit>,
    /// Rate limit for each machine; null for no limit.
    pub machine_rate_limit: Option<RateLimit>,
}

impl Default for InstanceSettings {
    fn default() -> Self {
        Self {
            jwt_scopes_claim: true,
            null_expiration: NullExpiration::Default,
            max_jwt_ttl: MAX_TOKEN_TTL_SECONDS,
            secret_reveal: true,
            token_pooling: true,
            issuer: None,
            rate_limit: None,
            machine_rate_limit: None,
        }
    }
}

/// New values for some settings; `None` leaves a setting unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingsUpdate {
    /// See [`InstanceSettings::jwt_scopes_claim`].
    pub jwt_scopes_claim: Option<bool>,
    /// See [`InstanceSettings::null_expiration`].
    pub null_expiration: Option<NullExpiration>,
    /// See [`InstanceSettings::max_jwt_ttl`].
    pub max_jwt_ttl: Option<i64>,
    /// See [`InstanceSettings::secret_reveal`].
    pub secret_reveal: Option<bool>,
    /// See [`InstanceSettings::token_pooling`].
    pub token_pooling: Option<bool>,
    /// See [`InstanceSettings::issuer`]; `Some(None)` clears it.
    pub issuer: Option<Option<String>>,
    /// See [`InstanceSettings::rate_limit`]; `Some(None)` clears it.
    pub rate_limit: Option<Option<RateLimit>>,
    /// See [`InstanceSettings::machine_rate_limit`]; `Some(None)` clears it.
    pub machine_rate_limit: Option<Option<RateLimit>>,
}

/// An unknown setting, or a value of the wrong type.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SettingError {
    /// No setting has this name.
    #[error("has no {}, only {}", shown(.0), SettingsUpdate::NAMES.join(", "))]
    Unknown(String),
    /// The value has the wrong type.
    #[error("{name} must be {right}")]
    WrongType {
        /// The setting.
        name: &'static str,
        /// Describes the values that are allowed.
        right: &'static str,
    },
}

impl From<SettingError> for Invalid {
    fn from(error: SettingError) -> Self {
        let (name, problem) = match error {
            SettingError::WrongType { name, right } if name == "null_expiration" => {
                (name, Problem::NotAllowed(format!("must be {right}").into()))
            }
            SettingError::WrongType { name, right } => (name, Problem::WrongType(right.into())),
            error @ SettingError::Unknown(_) => {
                ("settings", Problem::NotAllowed(error.to_string().into()))
            }
        };
        Self::new(Place::Body, name, problem)
    }
}

impl SettingsUpdate {
    /// The names of all settings, in alphabetical order.
    pub const NAMES: [&str; 8] = [
        "issuer",
        "jwt_scopes_claim",
        "machine_rate_limit",
        "max_jwt_ttl",
        "null_expiration",
        "rate_limit",
        "secret_reveal",
        "token_pooling",
    ];

    /// Sets one setting from a JSON value. A whole number may be written as `3600.0`.
    ///
    /// # Errors
    /// If no setting has this name, or the value has the wrong type.
    pub fn set(&mut self, name: &str, value: Value) -> Result<(), SettingError> {
        const SWITCH: &str = "true or false";
        const LIMIT: &str = r#"an object like {"requests":1000,"seconds":60}, or null for none"#;
        match name {
            "issuer" => self.issuer = Some(read("issuer", value, "a URL, or null for none")?),
            "jwt_scopes_claim" => {
                self.jwt_scopes_claim = Some(read("jwt_scopes_claim", value, SWITCH)?);
            }
            "machine_rate_limit" => {
                self.machine_rate_limit = Some(read("machine_rate_limit", value, LIMIT)?);
            }
            "max_jwt_ttl" => {
                let right = "a whole number of seconds";
                self.max_jwt_ttl = Some(read("max_jwt_ttl", value, right)?);
            }
            "null_expiration" => {
                let right = r#""default" or "never""#;
                self.null_expiration = Some(read("null_expiration", value, right)?);
            }
            "rate_limit" => self.rate_limit = Some(read("rate_limit", value, LIMIT)?),
            "secret_reveal" => self.secret_reveal = Some(read("secret_reveal", value, SWITCH)?),
            "token_pooling" => self.token_pooling = Some(read("token_pooling", value, SWITCH)?),
            unknown => return Err(SettingError::Unknown(unknown.to_owned())),
        }
        Ok(())
    }

    /// Returns whether the update changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the settings after this update.
    #[must_use]
    pub fn applied_to(&self, settings: &InstanceSettings) -> InstanceSettings {
        let new = self.clone();
        let old = settings.clone();
        InstanceSettings {
            jwt_scopes_claim: new.jwt_scopes_claim.unwrap_or(old.jwt_scopes_claim),
            null_expiration: new.null_expiration.unwrap_or(old.null_expiration),
            max_jwt_ttl: new.max_jwt_ttl.unwrap_or(old.max_jwt_ttl),
            secret_reveal: new.secret_reveal.unwrap_or(old.secret_reveal),
            token_pooling: new.token_pooling.unwrap_or(old.token_pooling),
            issuer: new.issuer.unwrap_or(old.issuer),
            rate_limit: new.rate_limit.unwrap_or(old.rate_limit),
            machine_rate_limit: new.machine_rate_limit.unwrap_or(old.machine_rate_limit),
        }
    }
}

impl<'de> Deserialize<'de> for SettingsUpdate {
    /// Reads an object. An error names the setting.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut update = Self::default();
        for (name, value) in Map::deserialize(deserializer)? {
            let set = update.set(&name, value).map_err(Invalid::from);
            set.map_err(|Invalid { name, problem, .. }| {
                let setting = Unexpected::Other(&name);
                match problem {
                    Problem::WrongType(right) => D::Error::invalid_type(setting, &&*right),
                    problem => D::Error::invalid_value(setting, &problem.to_string().as_str()),
                }
            })?;
        }
        Ok(update)
    }
}

fn read<T: serde::de::DeserializeOwned>(
    name: &'static str,
    mut value: Value,
    right: &'static str,
) -> Result<T, SettingError> {
    write_whole_numbers(&mut value);
    serde_json::from_value(value).map_err(|_| SettingError::WrongType { name, right })
}

/// Converts whole numbers such as `3600.0` to integers, as everywhere else (contract: ten things that break SDKs).
fn write_whole_numbers(value: &mut Value) {
    match value {
        Value::Object(members) => members.values_mut().for_each(write_whole_numbers),
        Value::Number(number) => {
            let whole = number
                .as_f64()
                .filter(|number| number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0);
            if let Some(whole) = whole.filter(|_| number.is_f64()) {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "the filter bounds the number and its fraction is zero"
                )]
                let whole = whole as i64;
                *value = whole.into();
            }
        }
        _ => {}
    }
}

/// Quotes an unknown name for an error message. Text that does not look like a name is not repeated.
fn shown(name: &str) -> String {
    let is_name = name.len() <= 40
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if is_name {
        format!("'{name}'")
    } else {
        "member of that name".to_owned()
    }
}

#[cfg(feature = "schema")]
impl JsonSchema for SettingsUpdate {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SettingsUpdate".into()
    }

    /// Any of the settings.
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let mut schema = InstanceSettings::json_schema(generator);
        schema.remove("required");
        // What is absent stays as it is.
        let members = schema.get_mut("properties").and_then(Value::as_object_mut);
        for member in members.into_iter().flat_map(serde_json::Map::values_mut) {
            member
                .as_object_mut()
                .map(|member| member.remove("default"));
        }
        schema
    }
}

#[cfg(feature = "schema")]
crate::schema::in_place!(
    NullExpiration,
    "NullExpiration",
    schemars::json_schema!({ "type": "string", "enum": [Self::Default, Self::Never] })
);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn updated(changes: &Value) -> Result<SettingsUpdate, SettingError> {
        let mut update = SettingsUpdate::default();
        for (name, value) in changes.as_object().expect("an object") {
            update.set(name, value.clone())?;
        }
        Ok(update)
    }

    #[test]
    fn every_setting_can_be_set_to_what_it_is() {
        let settings = InstanceSettings {
            rate_limit: Some(RateLimit {
                requests: 1,
                seconds: 2,
            }),
            issuer: Some("https://auth.example.com".to_owned()),
            null_expiration: NullExpiration::Never,
            ..InstanceSettings::default()
        };
        let written = serde_json::to_value(&settings).expect("serializes");
        let names: Vec<_> = written.as_object().expect("an object").keys().collect();
        assert_eq!(names, SettingsUpdate::NAMES);
        let update = updated(&written).expect("reads");
        assert_eq!(update.applied_to(&InstanceSettings::default()), settings);
        assert_eq!(SettingsUpdate::default().applied_to(&settings), settings);
    }

    #[test]
    fn settings_take_whole_numbers_in_any_notation() {
        let update = updated(
            &json!({"max_jwt_ttl": 3600.0, "rate_limit": {"requests": 1e3, "seconds": 10}}),
        );
        let update = update.expect("reads");
        assert_eq!(update.max_jwt_ttl, Some(3600));
        assert_eq!(
            update.rate_limit,
            Some(Some(RateLimit {
                requests: 1000,
                seconds: 10
            }))
        );
        assert!(updated(&json!({"max_jwt_ttl": 0.5})).is_err());
    }

    #[test]
    fn an_unknown_setting_and_a_wrong_value_are_named() {
        let refused = |changes| updated(&changes).expect_err("refused").to_string();
        assert_eq!(
            refused(json!({"max_jwt_ttl": "1h"})),
            "max_jwt_ttl must be a whole number of seconds"
        );
        assert!(refused(json!({"max_ttl": 1})).starts_with("has no 'max_ttl', only issuer, "));
        assert!(refused(json!({"sk_live_X": 1})).starts_with("has no member of that name, only "));
    }
}
