"""What can be known before anything is paid: does a method, a model, rows and a device fit."""
