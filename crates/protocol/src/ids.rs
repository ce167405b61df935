//! Identifiers of machines, instances, signing keys and tokens (contract: identifiers).
//!
//! An id names a thing and proves nothing. Ids are compared byte for byte. Machine and instance ids have the shape of a
//! KSUID: 32 bits of seconds, then 128 random bits, so they sort by age.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::base62;
use crate::random::{Random, random_bytes};
use crate::time::Timestamp;

/// Seconds between the Unix epoch and the epoch of KSUIDs, 2014-05-13T16:53:20Z.
const KSUID_EPOCH_SECONDS: i64 = 1_400_000_000;

/// The length of a machine, instance or signing key id in bytes.
pub const ID_LENGTH: usize = 31;

/// What an [`Id`] names; decides its prefix.
pub trait Kind: Copy + Eq + Ord + std::hash::Hash + fmt::Debug {
    /// The four characters in front.
    const PREFIX: &'static str;
    /// The noun for messages.
    const NOUN: &'static str;
    /// An id in the examples of the documentation.
    const EXAMPLE: &'static str;
}

/// Marks ids of machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineKind;

impl Kind for MachineKind {
    const PREFIX: &'static str = "mch_";
    const NOUN: &'static str = "machine id";
    const EXAMPLE: &'static str = "mch_2xhFjEI5X2qWRvtV13BzSj8H6Dk";
}

/// Marks ids of instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceKind;

impl Kind for InstanceKind {
    const PREFIX: &'static str = "ins_";
    const NOUN: &'static str = "instance id";
    const EXAMPLE: &'static str = "ins_2GIoQhbUpy0hX7B2cVkuTMinXoD";
}

/// Marks ids of signing keys, the `kid` of a JWT. They share the instances' prefix, as Clerk's do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SigningKeyKind;

impl Kind for SigningKeyKind {
    const PREFIX: &'static str = "ins_";
    const NOUN: &'static str = "signing key id";
    const EXAMPLE: &'static str = InstanceKind::EXAMPLE;
}

/// A prefix and 27 characters, held in place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id<K>([u8; ID_LENGTH], PhantomData<K>);

/// `mch_` and 27 characters: a machine.
pub type MachineId = Id<MachineKind>;
/// `ins_` and 27 characters: an instance, the tenant that machines belong to.
pub type InstanceId = Id<InstanceKind>;
/// `ins_` and 27 characters: a signing key, named by the `kid` of a JWT.
pub type SigningKeyId = Id<SigningKeyKind>;

/// A text that is not an id of the wanted kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a {noun}: it must be '{prefix}' followed by {rest}")]
pub struct IdError {
    noun: &'static str,
    prefix: &'static str,
    rest: &'static str,
}

impl<K: Kind> Id<K> {
    /// Makes a new id from the time and 128 random bits.
    #[must_use]
    pub fn generate(now: Timestamp, random: &dyn Random) -> Self {
        let seconds = now.as_seconds().saturating_sub(KSUID_EPOCH_SECONDS);
        let seconds = u32::try_from(seconds.max(0)).unwrap_or(u32::MAX);
        let mut payload = [0; 20];
        let (time, chance) = payload.split_at_mut(4);
        time.copy_from_slice(&seconds.to_be_bytes());
        random.fill(chance);
        let mut text = [0; ID_LENGTH];
        let (prefix, digits) = text.split_at_mut(4);
        prefix.copy_from_slice(K::PREFIX.as_bytes());
        digits.copy_from_slice(&base62::encode_160(&payload));
        Self(text, PhantomData)
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("ids are made of ASCII characters only")
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl InstanceId {
    /// The `kid` of an instance's first signing key, which is the instance's own id, as at Clerk.
    #[must_use]
    pub fn first_signing_key(self) -> SigningKeyId {
        Id(self.0, PhantomData)
    }
}

impl<K: Kind> FromStr for Id<K> {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let error = IdError {
            noun: K::NOUN,
            prefix: K::PREFIX,
            rest: "27 letters, digits or underscores",
        };
        let bytes: [u8; ID_LENGTH] = text.as_bytes().try_into().map_err(|_| error)?;
        let body = bytes.strip_prefix(K::PREFIX.as_bytes()).ok_or(error)?;
        if body
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
        {
            Ok(Self(bytes, PhantomData))
        } else {
            Err(error)
        }
    }
}

impl<K: Kind> fmt::Display for Id<K> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl<K: Kind> fmt::Debug for Id<K> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl<K: Kind> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de, K: Kind> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// The id of a machine key or an instance key: `key_` and 12 hexadecimal digits. It is not a secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; KEY_ID_LENGTH]);

/// The length of a key id in bytes.
const KEY_ID_LENGTH: usize = 16;

impl KeyId {
    /// The prefix of every key id.
    pub const PREFIX: &'static str = "key_";

    /// Creates a new id from 48 random bits.
    #[must_use]
    pub fn generate(random: &dyn Random) -> Self {
        let number = u64::from_be_bytes(random_bytes(random)) & 0xffff_ffff_ffff;
        format!("{}{number:012x}", Self::PREFIX)
            .parse()
            .expect("12 hexadecimal digits make an id")
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("ids are made of ASCII characters only")
    }
}

impl FromStr for KeyId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let error = IdError {
            noun: "key id",
            prefix: Self::PREFIX,
            rest: "12 lower-case hexadecimal digits",
        };
        let bytes: [u8; KEY_ID_LENGTH] = text.as_bytes().try_into().map_err(|_| error)?;
        let digits = bytes.strip_prefix(Self::PREFIX.as_bytes()).ok_or(error)?;
        let is_digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
        if digits.iter().all(is_digit) {
            Ok(Self(bytes))
        } else {
            Err(error)
        }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Serialize for KeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// The token's place in the store: its integer primary key, increasing with time and distinct between nodes.
///
/// It is no secret: the token's id and the token string both carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locator(u64);

impl Locator {
    /// Takes the number. It must fit 63 bits, because SQL integers are signed.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        if number <= i64::MAX as u64 {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// `mt_` and 32 lower-case hexadecimal digits: the handle of a token, also the `jti` of a JWT.
///
/// The first 64 bits are the [`Locator`], the others are random. An id never authenticates.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId {
    locator: Locator,
    rest: u64,
}

impl TokenId {
    /// What every token id begins with.
    pub const PREFIX: &'static str = "mt_";
    /// An id in the examples of the documentation.
    pub const EXAMPLE: &'static str = "mt_07f0ba8c3b4843ce7d85fcdd5e71853e";

    /// Makes the id of the token at `locator` with 64 random bits.
    #[must_use]
    pub fn generate(locator: Locator, random: &dyn Random) -> Self {
        Self {
            locator,
            rest: u64::from_be_bytes(random_bytes(random)),
        }
    }

    /// Puts an id together from its stored parts.
    #[must_use]
    pub const fn from_parts(locator: Locator, rest: u64) -> Self {
        Self { locator, rest }
    }

    /// Where the token is stored.
    #[must_use]
    pub const fn locator(self) -> Locator {
        self.locator
    }

    /// The random half.
    #[must_use]
    pub const fn rest(self) -> u64 {
        self.rest
    }

    /// Whether `text` has the shape of a token id, `^mt_[0-9A-Fa-f]{32}$`, in any case.
    ///
    /// Ids are compared case-sensitively: one with upper-case digits is well formed and names nothing.
    #[must_use]
    pub fn is_well_formed(text: &str) -> bool {
        text.strip_prefix(Self::PREFIX).is_some_and(|digits| {
            digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    }
}

impl FromStr for TokenId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let error = IdError {
            noun: "token id",
            prefix: Self::PREFIX,
            rest: "32 lower-case hexadecimal digits",
        };
        if !Self::is_well_formed(text) || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(error);
        }
        let digits = text.get(Self::PREFIX.len()..).ok_or(error)?;
        let (high, low) = digits.split_at_checked(16).ok_or(error)?;
        let half = |digits| u64::from_str_radix(digits, 16).map_err(|_| error);
        let (high, low) = (half(high)?, half(low)?);
        Ok(Self {
            // An id that was not made here may have any 64 bits in this place. No row has such a locator.
            locator: Locator(high),
            rest: low,
        })
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "mt_{:016x}{:016x}", self.locator.0, self.rest)
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl TokenId {
    /// The id as text, without the cost of formatting.
    pub(crate) fn to_text(self) -> [u8; 35] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = *b"mt_00000000000000000000000000000000";
        let number = (u128::from(self.locator.0) << 64) | u128::from(self.rest);
        for (place, character) in text.iter_mut().rev().take(32).enumerate() {
            let nibble = ((number >> (4 * place)) & 0xf) as usize;
            *character = DIGITS.get(nibble).copied().unwrap_or(b'0');
        }
        text
    }
}

impl Serialize for TokenId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.to_text();
        serializer.serialize_str(std::str::from_utf8(&text).expect("hexadecimal digits are ASCII"))
    }
}

impl<'de> Deserialize<'de> for TokenId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(feature = "schema")]
crate::schema::in_place!(
    KeyId,
    "KeyId",
    schemars::json_schema!({ "type": "string", "pattern": "^key_[0-9a-f]{12}$", "examples": ["key_5f1c0a9be274"] })
);

#[cfg(feature = "schema")]
crate::schema::in_place!(
    TokenId,
    "TokenId",
    schemars::json_schema!({ "type": "string", "pattern": "^mt_[0-9a-f]{32}$", "examples": [Self::EXAMPLE] })
);

#[cfg(feature = "schema")]
impl<K: Kind> schemars::JsonSchema for Id<K> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        K::NOUN.into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let pattern = format!("^{}[0-9A-Za-z_]{{27}}$", K::PREFIX);
        schemars::json_schema!({ "type": "string", "pattern": pattern, "examples": [K::EXAMPLE] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SeededRandom;
    use proptest::prelude::*;

    #[test]
    fn a_generated_machine_id_is_one() {
        let id = MachineId::generate(
            Timestamp::from_millis(1_767_225_600_000),
            &SeededRandom::new(1),
        );
        assert_eq!(id.as_str().parse(), Ok(id));
        assert_eq!(id.as_str().len(), ID_LENGTH);
    }

    #[test]
    fn an_instance_id_is_no_machine_id() {
        assert!(
            "ins_2GIoQhbUpy0hX7B2cVkuTMinXoD"
                .parse::<MachineId>()
                .is_err()
        );
        assert!(
            "ins_2GIoQhbUpy0hX7B2cVkuTMinXoD"
                .parse::<InstanceId>()
                .is_ok()
        );
        assert!(
            "mch_2xhFjEI5X2qWRvtV13BzSj8H6D"
                .parse::<MachineId>()
                .is_err()
        );
        assert!(
            "mch_2xhFjEI5X2qWRvtV13BzSj8H6D-"
                .parse::<MachineId>()
                .is_err()
        );
    }

    #[test]
    fn an_id_that_clerk_made_is_one() {
        let text = "mt_f7f0ba8c3b4843ce7d85fcdd5e71853e";
        let id: TokenId = text.parse().expect("an id");
        assert_eq!(id.to_string(), text);
    }

    #[test]
    fn an_upper_case_token_id_is_well_formed_and_names_nothing() {
        let text = "mt_0000019B76DA5C0000C0FFEE00C0FFEE";
        assert!(TokenId::is_well_formed(text));
        assert!(text.parse::<TokenId>().is_err());
    }

    proptest! {
        #[test]
        fn a_token_id_survives_its_text(locator in 0..=i64::MAX as u64, rest: u64) {
            let id = TokenId::from_parts(Locator::new(locator).expect("fits"), rest);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(serde_json::to_string(&id).expect("serializes"), format!("\"{id}\""));
        }

        #[test]
        fn no_text_makes_an_id_panic(text in "\\PC*") {
            let _ = text.parse::<MachineId>();
            let _ = text.parse::<TokenId>();
        }
    }
}
