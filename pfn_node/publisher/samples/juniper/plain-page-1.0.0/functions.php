<?php
/**
 * What Plain Page asks of WordPress.
 *
 * @package Plain_Page
 */

if ( ! defined( 'ABSPATH' ) ) {
	exit;
}

add_action(
	'after_setup_theme',
	function () {
		load_theme_textdomain( 'plain-page' );
		add_theme_support( 'title-tag' );
		add_theme_support( 'automatic-feed-links' );
		add_theme_support( 'post-thumbnails' );
		add_theme_support( 'html5', array( 'search-form', 'comment-form', 'comment-list', 'gallery', 'caption', 'style' ) );
		register_nav_menus( array( 'main' => __( 'Main menu', 'plain-page' ) ) );
	}
);

add_action(
	'wp_enqueue_scripts',
	function () {
		wp_enqueue_style( 'plain-page', get_stylesheet_uri(), array(), wp_get_theme()->get( 'Version' ) );
	}
);
