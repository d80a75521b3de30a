<?php
/**
 * Everything above the content.
 *
 * @package Plain_Page
 */

?>
<!doctype html>
<html <?php language_attributes(); ?>>
<head>
	<meta charset="<?php bloginfo( 'charset' ); ?>">
	<meta name="viewport" content="width=device-width, initial-scale=1">
	<?php wp_head(); ?>
</head>
<body <?php body_class(); ?>>
<?php wp_body_open(); ?>
<a class="skip" href="#content"><?php esc_html_e( 'Skip to the content', 'plain-page' ); ?></a>
<header>
	<h1><a href="<?php echo esc_url( home_url( '/' ) ); ?>"><?php bloginfo( 'name' ); ?></a></h1>
	<?php wp_nav_menu( array( 'theme_location' => 'main', 'fallback_cb' => false ) ); ?>
</header>
<main id="content">
