// SPDX-License-Identifier: Apache-2.0
//! What wharf does with a container: the only layer that combines what it uses.
