//! The handlers: parse, call one method of the authority, wrap. One file per noun.
//!
//! Above each handler stands what people read about its operation in the OpenAPI document. The first line is its group and what it
//! does; the text is Markdown. The list holds the answers that succeed, by status, and the errors that only the handler knows, by
//! code and parameter or (reason). What differs from the example of a type stands in backticks.

pub(crate) mod changes;
pub(crate) mod docs;
pub(crate) mod instances;
pub(crate) mod jwks;
pub(crate) mod machines;
pub(crate) mod operator;
pub(crate) mod state;
pub(crate) mod tokens;

/// The groups of operations, in the order in which they are shown.
pub(crate) const GROUPS: &[(&str, &str)] = &[
    (
        "Who am I",
        "Start here: shows what the key or token that you pasted is.",
    ),
    (
        "Machines",
        "A machine is a service with a key of its own. An instance key manages them.",
    ),
    (
        "Scopes",
        "A scope lets one machine call another. Tokens copy the scopes of their machine when they are made.",
    ),
    (
        "Machine keys",
        "The key of a machine, with which it creates and verifies tokens.",
    ),
    (
        "Tokens",
        "What one machine shows to another. Machines create them; receivers verify them; both can be done with a key alone.",
    ),
    (
        "Public keys",
        "With these anybody checks a JWT without asking the authority each time.",
    ),
    (
        "Signing keys",
        "The private sides of the public keys: when they sign, when they go.",
    ),
    (
        "Instance",
        "The instance that the key belongs to: settings, keys and change log.",
    ),
    (
        "State",
        "For load balancers and for tools that read this document.",
    ),
    (
        "Other kinds",
        "SDKs that accept any kind of token ask here about kinds that this authority does not have.",
    ),
];
