//! The text that `nft list ruleset` prints for the model.
