//! The routes: which request goes where, and a file for each kind of route.

mod batch;
mod client;
mod denied;
mod form;
mod ops;
pub(super) mod pace;
pub(super) mod pages;
mod position;
mod publication;
mod publish;
mod query;
pub(super) mod route;
mod seen;
mod sse;
mod upgrade;
