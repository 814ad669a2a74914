"""What every layer stands on: the image contract, picture files, errors."""
