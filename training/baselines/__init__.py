"""What any recommender must beat: counts, popularity, TIFU-KNN, item-KNN and ALS, tuned on validation."""
