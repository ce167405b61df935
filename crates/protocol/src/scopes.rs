//! The machines a token is for: a list of machine ids, kept as one text.
//!
//! The text is the `scopes` claim of a JWT, the column of the store and the source of the JSON list, so a check of
//! membership allocates nothing and equal lists can share their memory.

use std::fmt;
use std::sync::Arc;

use serde::de::{SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::{ID_LENGTH, IdError, MachineId};

/// Machine ids separated by single spaces, in the order in which the scopes were made.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Scopes(Arc<str>);

impl Scopes {
    /// No machine at all.
    #[must_use]
    pub fn none() -> Self {
        Self(Arc::from(""))
    }

    /// Reads the space-separated form.
    ///
    /// # Errors
    /// Where a part is no machine id, or the parts are not separated by single spaces.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        if !text.is_empty() {
            for part in text.split(' ') {
                part.parse::<MachineId>()?;
            }
        }
        Ok(Self(Arc::from(text)))
    }

    /// The space-separated form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is no machine.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `machine` is one of them.
    #[must_use]
    pub fn contains(&self, machine: &MachineId) -> bool {
        self.0
            .as_bytes()
            .chunks(ID_LENGTH + 1)
            .any(|part| part.get(..ID_LENGTH) == Some(machine.as_bytes()))
    }

    /// The ids.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split(' ').filter(|part| !part.is_empty())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        (self.0.len() + 1) / (ID_LENGTH + 1)
    }

    /// The same ids in the order of their text: equal for equal sets.
    #[must_use]
    pub fn sorted(&self) -> String {
        let mut parts: Vec<_> = self.iter().collect();
        parts.sort_unstable();
        parts.join(" ")
    }
}

impl FromIterator<MachineId> for Scopes {
    fn from_iter<I: IntoIterator<Item = MachineId>>(machines: I) -> Self {
        let mut text = String::new();
        for machine in machines {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(machine.as_str());
        }
        Self(Arc::from(text))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Serialize for Scopes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.len()))?;
        for machine in self.iter() {
            list.serialize_element(machine)?;
        }
        list.end()
    }
}

impl<'de> Deserialize<'de> for Scopes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor;
        impl<'de> Visitor<'de> for ListVisitor {
            type Value = Scopes;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list of machine ids")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Scopes, A::Error> {
                let mut machines = Vec::new();
                while let Some(machine) = items.next_element::<MachineId>()? {
                    machines.push(machine);
                }
                Ok(machines.into_iter().collect())
            }
        }
        deserializer.deserialize_seq(ListVisitor)
    }
}

#[cfg(feature = "schema")]
crate::schema::in_place!(
    Scopes,
    "Scopes",
    schemars::json_schema!({
        "type": "array",
        "items": { "type": "string", "pattern": crate::schema::MACHINE_ID, "description": "A machine's id." },
        "examples": [[crate::schema::LEDGER]],
    })
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::SeededRandom;
    use crate::time::Timestamp;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_list_contains_its_members_and_no_other(seed: u64, count in 0_usize..5) {
            let random = SeededRandom::new(seed);
            let ids: Vec<_> = (0..=count).map(|_| MachineId::generate(Timestamp::EPOCH, &random)).collect();
            let scopes: Scopes = ids[..count].iter().copied().collect();
            prop_assert_eq!(scopes.len(), count);
            prop_assert!(ids[..count].iter().all(|id| scopes.contains(id)));
            prop_assert!(!scopes.contains(&ids[count]));
            prop_assert_eq!(Scopes::parse(scopes.as_str()), Ok(scopes.clone()));
            let json = serde_json::to_string(&scopes).expect("serializes");
            prop_assert_eq!(serde_json::from_str::<Scopes>(&json).expect("parses"), scopes);
        }
    }
}
