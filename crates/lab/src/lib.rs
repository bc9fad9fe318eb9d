//! Kubernetes nodes and pods from network namespaces on one machine.
