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
        "Start here: identifies the key or token that you pasted.",
    ),
    (
        "Machines",
        "A machine is a service with its own key. You manage machines with an instance key.",
    ),
    (
        "Scopes",
        "A scope lets one machine call another. A token copies its machine's scopes when it is created.",
    ),
    (
        "Machine keys",
        "The key of a machine, with which it creates and verifies tokens.",
    ),
    (
        "Tokens",
        "A machine presents a token to the machine that it calls. Callers create tokens; receivers verify them. Both need only their machine key.",
    ),
    (
        "Public keys",
        "With the public keys, anyone can verify a JWT without asking the authority each time.",
    ),
    (
        "Signing keys",
        "The keys that sign JWTs: list, rotate and delete them.",
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
        "For SDKs that accept any kind of token: these operations answer 404 for kinds that this authority does not have.",
    ),
];
