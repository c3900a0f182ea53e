//! The documents are true: what they show compiles, parses, is accepted or runs, and what they name exists.
//!
//! A check of a document belongs here even where it is crude: a reader copies what is shown, and believes what is named.

mod checkout;
mod code;
mod commands;
mod links;
mod manifests;
mod names;
mod run;
mod shell;
