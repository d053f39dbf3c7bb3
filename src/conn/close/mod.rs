//! How clients end: one by one, paced at the end of a drain, or all at once.

mod closing;
mod goodbye;
pub(super) mod paced;
pub(super) mod state;
