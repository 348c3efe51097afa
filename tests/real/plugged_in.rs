//! A company's CA under several processes, one after the other and side by side.
