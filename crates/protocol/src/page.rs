//! Defines how lists are sorted and paged.

use std::str::FromStr;

/// The requested part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Maximum number of items.
    pub limit: u32,
    /// Number of items to skip.
    pub offset: u64,
}

/// The field by which machines are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortBy {
    /// The creation time.
    CreatedAt,
    /// The name, byte for byte.
    Name,
}

/// The order of a list of machines. Machines with equal values are sorted by id in the same direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineOrder {
    /// The field.
    pub by: SortBy,
    /// Whether the largest value comes first.
    pub is_descending: bool,
}

impl Default for MachineOrder {
    /// Newest first (contract: machines, list).
    fn default() -> Self {
        Self {
            by: SortBy::CreatedAt,
            is_descending: true,
        }
    }
}

/// The error for text that is not an order of machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be name or created_at, with + or - in front or nothing")]
pub struct MachineOrderError;

impl FromStr for MachineOrder {
    type Err = MachineOrderError;

    /// Reads an optional sign and a field. A raw `+` in a query string arrives as a space (contract: request
    /// conventions).
    fn from_str(text: &str) -> Result<Self, MachineOrderError> {
        let (is_descending, field) = match text.strip_prefix('-') {
            Some(field) => (true, field),
            None => (false, text.strip_prefix(['+', ' ']).unwrap_or(text)),
        };
        let by = match field {
            "created_at" => SortBy::CreatedAt,
            "name" => SortBy::Name,
            _ => return Err(MachineOrderError),
        };
        Ok(Self { by, is_descending })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_a_sign_and_a_field() {
        let order = |by, is_descending| Ok(MachineOrder { by, is_descending });
        assert_eq!("name".parse(), order(SortBy::Name, false));
        assert_eq!("+name".parse(), order(SortBy::Name, false));
        assert_eq!(" name".parse(), order(SortBy::Name, false));
        assert_eq!("-created_at".parse(), order(SortBy::CreatedAt, true));
        for text in ["", "-", "id", "--name", "name ", "Name"] {
            assert_eq!(text.parse::<MachineOrder>(), Err(MachineOrderError));
        }
    }
}
